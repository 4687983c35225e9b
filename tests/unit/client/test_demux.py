"""Frames of attach and logs, however they are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual.client.demux import STDERR, STDOUT, Demultiplexer
from rorqual.client.errors import ProtocolError

FRAMES = st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=40)), max_size=12)


def encode(frames: list[tuple[int, bytes]]) -> bytes:
    return b"".join(bytes([s, 0, 0, 0]) + len(p).to_bytes(4, "big") + p for s, p in frames)


@given(FRAMES, st.integers(1, 30))
def test_every_cut_gives_the_same_bytes_a_stream(frames: list[tuple[int, bytes]], cut: int) -> None:
    data = encode(frames)
    demux = Demultiplexer()
    out = {STDOUT: b"", STDERR: b""}
    order = b""
    for start in range(0, len(data), cut):
        for stream, payload in demux.feed(memoryview(data[start : start + cut])):
            out[stream] += payload
            order += payload
    assert out[STDOUT] == b"".join(p for s, p in frames if s == STDOUT)
    assert out[STDERR] == b"".join(p for s, p in frames if s == STDERR)
    assert order == b"".join(p for _, p in frames)


def test_payload_is_not_copied() -> None:
    data = bytearray(encode([(STDOUT, b"abc")]))
    ((_, payload),) = Demultiplexer().feed(memoryview(data))
    data[8] = ord("X")
    assert bytes(payload) == b"Xbc"


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(ProtocolError):
        Demultiplexer().feed(memoryview(b"HTTP/1.1 500 "))
