"""A request's body, which an event loop receives, for a thread that reads it."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator

_BUFFER_BYTES = 4 << 20  # of an upload, between network and disk


class ThreadBody:
    """The request's body for a thread that reads it: some MiB are kept between the two, so that neither waits often."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        self._room = asyncio.Event()

    async def pump(self, pieces: AsyncIterator[bytes]) -> None:
        """Pass the body on, to its end or until this is cancelled; what it raises, the reading thread raises."""
        try:
            async for piece in pieces:
                with self._changed:
                    self._pieces.append(piece)
                    self._size += len(piece)
                    self._changed.notify()
                    full = self._size > _BUFFER_BYTES
                    if full:
                        self._room.clear()
                if full:
                    await self._room.wait()
        except Exception as e:
            self.fail(e)
            return
        with self._changed:
            self._ended = True
            self._changed.notify()

    def fail(self, error: BaseException) -> None:
        """The thread's next read raises `error`."""
        with self._changed:
            self._failure = error
            self._changed.notify()

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, b"" at the end; in the thread."""
        with self._changed:
            while not self._pieces and not self._ended and self._failure is None:
                self._changed.wait()
            if self._failure is not None:
                raise self._failure
            if not self._pieces:
                return b""
            piece = self._pieces.popleft()
            if len(piece) > size:
                self._pieces.appendleft(piece[size:])
                piece = piece[:size]
            was_full = self._size > _BUFFER_BYTES // 2
            self._size -= len(piece)
            if was_full and self._size <= _BUFFER_BYTES // 2:
                self._loop.call_soon_threadsafe(self._room.set)
        return piece
