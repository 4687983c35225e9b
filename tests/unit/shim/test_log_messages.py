"""What log drivers that send output away make of what an image chose: its labels, variables and command."""

import json

import pytest

from rorqual.shim.logdrivers.fluentd import Fluentd
from rorqual.shim.logdrivers.gelf import Gelf
from rorqual.shim.logdrivers.journald import Journald
from rorqual.shim.logdrivers.remote import Encoder, Info, Line
from rorqual.shim.logdrivers.syslog import Syslog

FORGED = {"container_id": "forged", "container_name": "forged", "message": "forged", "log": "forged"}
LINE = Line("stdout", b"output", 1_700_000_000_000_000_000)


def info(attrs: dict[str, str], tag: str = "tag", **config: str) -> Info:
    return Info("real" * 16, "box", "sha256:1", "busybox", "sh", "2026-01-01T00:00:00Z", tag, attrs, config)


@pytest.mark.parametrize("driver", [Gelf, Fluentd, Journald])
def test_cve_2026_53488_labels_of_an_image_do_not_say_whose_output_it_is(driver: type[Encoder]) -> None:
    (message,) = driver(info(FORGED | {"tier": "front"})).encode(LINE)  # type: ignore[call-arg]
    assert b"real" * 16 in message and b"output" in message and b"front" in message
    if driver is Gelf:
        document = json.loads(message[:-1])
        assert (document["_container_id"], document["_container_name"]) == ("real" * 16, "box")
        assert document["short_message"] == "output"
        return
    if driver is Fluentd:
        for key in (b"container_id", b"container_name", b"log"):
            assert message.count(key) == 1 and key + b"\xa6forged" not in message
        return
    entry = [line.partition(b"=") for line in message.splitlines()]
    for name, value in ((b"CONTAINER_ID", b"realrealreal"), (b"CONTAINER_NAME", b"box"), (b"MESSAGE", b"output")):
        assert [found for key, _, found in entry if key == name] == [value]


@pytest.mark.parametrize("form", ["", "rfc3164", "rfc5424"])
def test_a_tag_with_line_ends_makes_no_second_syslog_message(form: str) -> None:
    encoder = Syslog(info({}, "sh -c\n<0>kernel: forged\r\0", **{"syslog-format": form}))
    (message,) = encoder.encode(LINE)
    assert message.endswith(b"output\n")
    assert not set(message[:-1]) & set(b"\n\r\0")
