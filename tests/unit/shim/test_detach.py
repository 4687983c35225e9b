"""Detach keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual.errdefs import InvalidArgument
from rorqual.shim.detach import DetachScanner, parse_keys


def test_names_of_keys() -> None:
    assert parse_keys("ctrl-p,ctrl-q") == b"\x10\x11"
    assert parse_keys("a,ctrl-@,ctrl-\\") == b"a\x00\x1c"
    assert parse_keys("") == b""


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ab", "é", "a,,b"])
def test_unknown_keys_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid detach keys"):
        parse_keys(text)


def test_the_sequence_detaches_in_pieces_and_whole() -> None:
    assert DetachScanner(b"\x10\x11").feed(b"ls\x10\x11rest") == (b"ls", True)
    scanner = DetachScanner(b"\x10\x11")
    assert scanner.feed(b"a\x10") == (b"a", False)
    assert scanner.feed(b"\x11") == (b"", True)


def test_a_broken_sequence_is_input() -> None:
    scanner = DetachScanner(b"\x10\x11")
    assert scanner.feed(b"\x10\x10x") == (b"\x10\x10x", False)


@given(st.lists(st.binary(max_size=8), max_size=8))
def test_no_input_is_lost_without_the_sequence(pieces: list[bytes]) -> None:
    keys = b"\x10\x11"
    data = b"".join(pieces).replace(b"\x11", b"q")
    scanner, out = DetachScanner(keys), b""
    for n in range(0, len(data), 3):
        part, detached = scanner.feed(data[n : n + 3])
        assert not detached
        out += part
    assert out + keys[: data.endswith(b"\x10")] == data
