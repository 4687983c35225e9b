import base64
import json

import pytest

from rorqual.distribution import credentials
from rorqual.errdefs import InvalidArgument


def header(fields: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()


def test_all_fields_are_read() -> None:
    found = credentials.parse_header(
        header(
            {"username": "ü?>", "password": "p~~?>", "identitytoken": "i", "registrytoken": "r", "serveraddress": "s"}
        )
    )
    assert found == credentials.Credentials("ü?>", "p~~?>", "i", "r", "s")
    assert "p~~" not in repr(found)
    assert found.basic == "Basic " + base64.b64encode("ü?>:p~~?>".encode()).decode()


@pytest.mark.parametrize("text", [None, "", header({}), header(None), header({}).rstrip("="), "e30", "e30="])
def test_no_credentials(text: str | None) -> None:
    assert credentials.parse_header(text) == credentials.ANONYMOUS


def test_auth_field_of_the_config_file() -> None:
    found = credentials.parse_header(header({"auth": base64.b64encode(b"u:p:w").decode()}))
    assert (found.username, found.password) == ("u", "p:w")


@pytest.mark.parametrize(
    "text", ["!", "e", "e30=x", header([]), header({"username": 1}), header({"auth": "!"}), "A" * 70_000]
)
def test_bad_headers_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid X-Registry-Auth header"):
        credentials.parse_header(text)
