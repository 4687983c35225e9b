"""Which requests are refused as a web page's."""

import socket

import pytest

from rorqual import browsers

LOOPBACK, OUTSIDE, UNIX = ("127.0.0.1", 2375), ("192.0.2.1", 2375), "/run/rorqual.sock"


@pytest.mark.parametrize(
    "host", ["127.0.0.1:2375", "[::1]:2375", "localhost", "LOCALHOST.:2375", "api.moby.localhost", ""]
)
@pytest.mark.parametrize("address", [LOOPBACK, ("::1", 2375, 0, 0), OUTSIDE, UNIX])
def test_programs_are_served(host: str, address: object) -> None:
    assert browsers.refusal({"Host": host}, address, tls=False) == ""


def test_this_machines_own_name_is_one() -> None:
    assert browsers.refusal({"Host": f"{socket.gethostname()}:2375"}, LOOPBACK, tls=False) == ""


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "http://127.0.0.1:8080", "https://localhost:2375.evil.example", "null", "", "http://["],
)
@pytest.mark.parametrize("address", [LOOPBACK, OUTSIDE])
@pytest.mark.parametrize("tls", [False, True])
def test_pages_of_other_hosts_are_refused(origin: str, address: object, tls: bool) -> None:
    headers = {"Host": "127.0.0.1:2375", "Origin": origin}
    assert "requests of web pages are refused" in browsers.refusal(headers, address, tls=tls)
    assert browsers.refusal(headers, UNIX, tls=False) == ""


def test_a_page_of_the_same_host_is_served() -> None:
    """docker-py's WebSocket library sends the address that it asks as its origin."""
    headers = {"Host": "127.0.0.1:2375", "Origin": "http://127.0.0.1:2375"}
    assert browsers.refusal(headers, LOOPBACK, tls=False) == ""


@pytest.mark.parametrize("host", ["evil.example:2375", "localhost.evil.example", "127.0.0.1.evil.example"])
def test_a_name_that_was_made_to_mean_the_loopback_is_refused(host: str) -> None:
    headers = {"Host": host, "Origin": f"http://{host}"}
    assert "is no name of this machine" in browsers.refusal(headers, LOOPBACK, tls=False)
    assert "is no name of this machine" in browsers.refusal({"Host": host}, ("::1", 2375, 0, 0), tls=False)
    assert browsers.refusal({"Host": host}, LOOPBACK, tls=True) == ""  # the certificate's business
    assert browsers.refusal({"Host": host}, OUTSIDE, tls=False) == ""  # whatever its users call this machine
