"""A request's body: decoders that take bytes and return payload, and the reader that a handler awaits.

A decoder is fed a buffer, takes what it understands from its front, and leaves the rest: the next request's bytes, or
those of a stream that takes the connection over.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from rorqual.daemon.web.head import Malformed

LINE_MAX = 4096  # bytes of a chunk's size line, or of all the trailers
_SIZE_DIGITS_MAX = 15
_HEX = frozenset(b"0123456789abcdefABCDEF")
HIGH_WATER = 512 * 1024  # unread bytes at which the socket is no longer read
_LOW_WATER = 128 * 1024


class Decoder(Protocol):
    """`done` is set once the body's last byte was taken."""

    done: bool

    def feed(self, buffer: bytearray) -> list[bytes]:
        """Payload from the buffer's front, which is removed there. Raises: Malformed."""
        ...


# One step of a decoder: False when it needs more bytes.
_State = Callable[[bytearray, list[bytes]], bool]


class ByLength:
    """A body of `length` bytes."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0

    def feed(self, buffer: bytearray) -> list[bytes]:
        piece = bytes(buffer[: self._left])
        del buffer[: self._left]
        self._left -= len(piece)
        self.done = self._left == 0
        return [piece] if piece else []


class ByChunks:
    """A chunked body; extensions and trailers are passed over. Source: RFC 9112 section 7.1."""

    def __init__(self) -> None:
        self._left = 0  # of the chunk
        self._state: _State = self._size_line
        self._trailers = 0
        self.done = False

    def feed(self, buffer: bytearray) -> list[bytes]:
        pieces: list[bytes] = []
        while buffer and not self.done and self._state(buffer, pieces):
            pass
        return pieces

    def _size_line(self, buffer: bytearray, _pieces: list[bytes]) -> bool:
        line = _take_line(buffer)
        if line is None:
            return False
        digits = line.partition(b";")[0].rstrip(b" \t")
        if not digits or len(digits) > _SIZE_DIGITS_MAX or not _HEX.issuperset(digits):
            raise Malformed(400, "invalid chunk size")
        self._left = int(digits, 16)
        self._state = self._data if self._left else self._trailer
        return True

    def _data(self, buffer: bytearray, pieces: list[bytes]) -> bool:
        piece = bytes(buffer[: self._left])
        del buffer[: self._left]
        self._left -= len(piece)
        pieces.append(piece)
        if self._left == 0:
            self._state = self._data_end
        return True

    def _data_end(self, buffer: bytearray, _pieces: list[bytes]) -> bool:
        if len(buffer) < 2 and buffer == b"\r"[: len(buffer)]:
            return False
        if buffer[:2] != b"\r\n":
            raise Malformed(400, "chunk is longer than its size")
        del buffer[:2]
        self._state = self._size_line
        return True

    def _trailer(self, buffer: bytearray, _pieces: list[bytes]) -> bool:
        line = _take_line(buffer)
        if line is None:
            return False
        self._trailers += len(line)
        if self._trailers > LINE_MAX:
            raise Malformed(400, "trailers are too long")
        self.done = not line
        return True


def _take_line(buffer: bytearray) -> bytes | None:
    end = buffer.find(b"\r\n", 0, LINE_MAX)
    if end < 0:
        if len(buffer) >= LINE_MAX:
            raise Malformed(400, "line of a chunk is too long")
        return None
    line = bytes(buffer[:end])
    del buffer[: end + 2]
    return line


class BodyReader:
    """The payload as it arrives, for one reader. Reading slowly slows the client down."""

    def __init__(self, *, wanted: Callable[[], None], full: Callable[[], None], drained: Callable[[], None]) -> None:
        """`wanted` is called before the first read, `full` and `drained` when the socket should rest and go on."""
        self._wanted, self._full, self._drained = wanted, full, drained
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._resting = False
        self._ended = False
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def feed(self, pieces: list[bytes], *, ended: bool) -> None:
        """More payload; the connection's side."""
        self._pieces.extend(pieces)
        self._size += sum(map(len, pieces))
        self._ended = ended
        if self._size > HIGH_WATER and not ended and not self._resting:
            self._resting = True
            self._full()
        self._wake()

    def fail(self, error: Exception) -> None:
        """The body will never be whole; its reader is told once it has read what came."""
        if not self._ended:
            self._failure = error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def iter_any(self) -> AsyncIterator[bytes]:
        """Pieces of any size. Raises: ConnectionError, Malformed when the body breaks off."""
        while (piece := await self._next()) is not None:
            yield piece

    async def _next(self) -> bytes | None:
        self._wanted()
        while not self._pieces:
            if self._ended:
                return None
            if self._failure is not None:
                raise self._failure
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        piece = self._pieces.popleft()
        self._size -= len(piece)
        if self._resting and self._size < _LOW_WATER:
            self._resting = False
            self._drained()
        return piece
