"""Frames of a WebSocket."""

import asyncio
import os
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual.daemon.api import websocket


def masked(opcode: int, payload: bytes, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    """A client's frame."""
    plain = websocket.frame(opcode, payload)
    head = plain[: len(plain) - len(payload)]
    body = bytes(b ^ mask[n % 4] for n, b in enumerate(payload))
    return bytes((head[0], head[1] | 0x80)) + head[2:] + mask + body


def test_the_answer_to_a_handshake_is_rfc_6455s_example() -> None:
    assert websocket.accept("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 50))
def test_frames_are_found_however_they_are_cut(payloads: list[bytes], step: int) -> None:
    data = b"".join(masked(websocket.BINARY, p, os.urandom(4)) for p in payloads)
    reader = websocket.FrameReader()
    found = [frame for n in range(0, len(data), step) for frame in reader.feed(data[n : n + step])]
    assert found == [(websocket.BINARY, p) for p in payloads]


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_sizes_are_written_in_one_two_or_eight_bytes(size: int) -> None:
    payload = bytes(size)
    assert list(websocket.FrameReader().feed(masked(websocket.TEXT, payload))) == [(websocket.TEXT, payload)]


@pytest.mark.parametrize(
    "data",
    [
        websocket.frame(websocket.BINARY, b"plain"),
        b"\x82\xff" + (2 << 30).to_bytes(8),
        masked(websocket.PING, bytes(126)),
    ],
)
def test_frames_without_a_mask_or_beyond_bounds_are_refused(data: bytes) -> None:
    with pytest.raises(websocket.FrameError):
        list(websocket.FrameReader().feed(data))


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False


async def test_pings_of_a_client_that_does_not_read_are_not_piled_up() -> None:
    """Each would be an answer that waits in this process, for as long as the client likes."""
    transport = Transport()
    client = websocket._Client(cast(asyncio.Transport, transport), cast(websocket.Sender, None))
    client.data_received(masked(websocket.PING, b"first"))
    assert transport.written == websocket.frame(websocket.PONG, b"first")
    transport.written = b""
    client.pause_writing()
    for n in range(1000):
        client.data_received(masked(websocket.PING, b"%d" % n))
    assert transport.written == b""
    client.resume_writing()
    assert transport.written == websocket.frame(websocket.PONG, b"999")
