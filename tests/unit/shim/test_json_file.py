"""The json-file log driver."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rorqual.shim.logdrivers.json_file import JSONFile, rfc3339
from rorqual.shim.logdrivers.lines import LINE_MAX
from rorqual.shim.logdrivers.rotating import RotatingFile

NOW = 1_700_000_000_123_456_000


def json_file(path: Path, *, attrs: dict[str, str], **options: int) -> JSONFile:
    return JSONFile(RotatingFile(str(path), **options), attrs)  # type: ignore[arg-type]


def entries(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_are_entries_in_dockers_format(tmp_path: Path) -> None:
    log = json_file(tmp_path / "log", attrs={})
    log.write("stdout", b'a "b"\nc', NOW)
    log.write("stderr", b"oops\r\n", NOW)
    log.write("stdout", b"d\n", NOW)
    log.close()
    assert (tmp_path / "log").read_text().splitlines()[0] == (
        '{"log":"a \\"b\\"\\n","stream":"stdout","time":"2023-11-14T22:13:20.123456Z"}'
    )
    assert [(e["stream"], e["log"]) for e in entries(tmp_path / "log")] == [
        ("stdout", 'a "b"\n'),
        ("stderr", "oops\r\n"),
        ("stdout", "cd\n"),
    ]


def test_an_unfinished_line_is_written_at_the_end(tmp_path: Path) -> None:
    log = json_file(tmp_path / "log", attrs={"k": "v"})
    log.write("stdout", b"prompt$ ", NOW)
    assert entries(tmp_path / "log") == []
    log.close()
    log.close()
    [entry] = entries(tmp_path / "log")
    assert entry["log"] == "prompt$ " and entry["attrs"] == {"k": "v"}


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=400).map(lambda b: b * 60)), max_size=6
    )
)
def test_every_byte_is_kept_in_order(tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[str, bytes]]) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    log = json_file(path, attrs={})
    for stream, data in writes:
        log.write(stream, data.decode("latin-1").encode(), NOW)  # valid UTF-8
    log.close()
    for stream in ("stdout", "stderr"):
        want = b"".join(d.decode("latin-1").encode() for s, d in writes if s == stream)
        got = [e["log"].encode() for e in map(json.loads, path.read_bytes().split(b"\n")[:-1]) if e["stream"] == stream]
        assert b"".join(got) == want
        assert all(len(g) <= LINE_MAX for g in got)


_LINES = st.text(alphabet='abc"\\\t\r\0\x7fü€😀\u2028\x85', max_size=30).map(str.encode)


@settings(max_examples=100)
@given(st.lists(_LINES, max_size=40), st.integers(1, 200), st.sampled_from([b"", b"x" * (LINE_MAX - 20)]))
def test_each_line_is_an_entry_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], size: int, first: bytes
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    log = json_file(path, attrs={})
    output = b"".join(line + b"\n" for line in [first, *lines])
    for at in range(0, len(output), size if not first else LINE_MAX - size):
        log.write("stdout", output[at : at + (size if not first else LINE_MAX - size)], NOW)
    log.close()
    found = [json.loads(entry)["log"].encode() for entry in path.read_bytes().split(b"\n")[:-1]]
    assert found == [line + b"\n" for line in [first, *lines]]


def test_what_is_no_utf8_is_replaced_and_its_line_kept(tmp_path: Path) -> None:
    log = json_file(tmp_path / "log", attrs={})
    log.write("stdout", b"fine\n\xff\xfe\nfine\n", NOW)
    log.close()
    assert [e["log"] for e in entries(tmp_path / "log")] == ["fine\n", "\ufffd\ufffd\n", "fine\n"]


def test_rotation_keeps_max_file_files_and_replays_them_in_order(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = json_file(path, attrs={}, max_size_bytes=300, max_file=3)
    for n in range(20):
        log.write("stdout", f"line {n:02}\n".encode(), NOW)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert all(p.stat().st_size <= 300 for p in tmp_path.iterdir())
    replayed = [data for _, data in log.replay()]
    assert replayed[-1] == b"line 19\n" and replayed == sorted(replayed)
    log.close()


def test_one_file_is_truncated_at_its_size(tmp_path: Path) -> None:
    log = json_file(tmp_path / "log", attrs={}, max_size_bytes=300)
    for n in range(20):
        log.write("stdout", f"line {n:02}\n".encode(), NOW)
    log.close()
    assert [p.name for p in tmp_path.iterdir()] == ["log"]
    assert entries(tmp_path / "log")[-1]["log"] == "line 19\n"


def test_a_symlink_in_the_logs_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        json_file(tmp_path / "log", attrs={})


def test_times_are_go_s_rfc3339nano() -> None:
    assert rfc3339(1_700_000_000_000_000_000) == "2023-11-14T22:13:20Z"
    assert rfc3339(1_700_000_000_000_000_010) == "2023-11-14T22:13:20.00000001Z"
