"""What CRIU is asked and what it answers, as bytes; and what stands in the way of asking."""

from pathlib import Path

import pytest

from rorqual import errdefs
from rorqual.runc.criu import options, service, wire


def test_requests_are_protobufs() -> None:
    assert wire.encode([(1, 1)]) == b"\x08\x01"
    assert wire.encode([(2, 300), (10, "ab"), (3, True), (7, False)]) == b"\x10\xac\x02\x52\x02ab\x18\x01\x38\x00"
    assert wire.encode([(7, -1)]) == b"\x38" + b"\xff" * 9 + b"\x01"
    mount = (wire.EXT_MNT, ((1, "/a"), (2, "/b")))
    assert wire.encode([mount]) == b"\xba\x01\x08\x0a\x02/a\x12\x02/b"
    assert wire.request(wire.DUMP, [(wire.PID, 5)]) == b"\x08\x01\x12\x02\x10\x05"
    assert wire.request(wire.FEATURE_CHECK, features=(wire.MEM_TRACK,)) == b"\x08\x09\x2a\x02\x08\x01"
    assert wire.notified(wire.NOTIFY) == b"\x08\x06\x18\x01"


def test_answers_are_understood() -> None:
    version = wire.answer(b"\x08\x0a\x10\x01\x52\x06\x08\x03\x10\x11\x20\x01")
    assert (version.type, version.success, version.version) == (wire.VERSION, True, 31701)
    notify = wire.answer(b"\x08\x06\x10\x01\x2a\x0d\x0a\x09post-dump\x10\x07")
    assert (notify.type, notify.script, notify.pid) == (wire.NOTIFY, "post-dump", 7)
    failed = wire.answer(b"\x08\x01\x10\x00\x38\x03\x4a\x02no")
    assert (failed.success, failed.errno, failed.message) == (False, 3, "no")
    assert wire.answer(b"\x08\x09\x10\x01\x42\x04\x08\x01\x10\x00").features == {wire.MEM_TRACK}
    assert wire.answer(b"\x08\x02\x10\x01\x22\x02\x08\x2a").pid == 42


@pytest.mark.parametrize(
    "data", [b"\x08", b"\x0a\x05ab", b"\x2a\x01\xff", b"\x08" + b"\xff" * 12, b"\x0b", b"\x28\x05"]
)
def test_a_damaged_answer_is_an_error(data: bytes) -> None:
    with pytest.raises(errdefs.DataLoss, match="criu's answer is damaged"):
        wire.answer(data)


def test_without_criu_it_is_said_as_runc_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    text = r'CRIU version check failed: exec: "criu": executable file not found in \$PATH'
    with pytest.raises(errdefs.NotImplementedHere, match=text):
        service.version()


def test_a_cgroup_mode_that_is_none_is_refused() -> None:
    with pytest.raises(errdefs.InvalidArgument, match="manage-cgroups-mode"):
        options.common(options.Options("/x", manage_cgroups_mode="hard"), "log", {})
    assert (wire.CONFIG_FILE, "/mine") in options.common(options.Options("/x"), "log", {"org.criu.config": "/mine"})
    numbers = [number for number, _ in options.common(options.Options("/x"), "log", {"org.criu.config": ""})]
    assert wire.CONFIG_FILE not in numbers
