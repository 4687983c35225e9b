"""Between a thread that parses synchronously and the event loop that has the bytes: bounded both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from rorqual.errdefs import Cancelled

T = TypeVar("T")


class Bridge:
    """`run` a function in a thread; it `call`s coroutines of the loop. Cancelling `run` ends the thread first."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        self._calls: set[asyncio.Task[Any]] = set()

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises."""
        thread = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            self._stopped = True
            for call in tuple(self._calls):
                call.cancel()
            await asyncio.gather(thread, return_exceptions=True)
            raise

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """In the thread: the coroutine's result. Raises: Cancelled once the caller of `run` gave up."""
        return asyncio.run_coroutine_threadsafe(self._guarded(coroutine), self._loop).result()

    async def _guarded(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._stopped:
            coroutine.close()
            raise Cancelled("the request was given up")
        task = asyncio.create_task(coroutine)
        self._calls.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            raise Cancelled("the request was given up") from None
        finally:
            self._calls.discard(task)


class BodyReader:
    """`read(size)` in the thread over an async iterator of the loop's."""

    def __init__(self, bridge: Bridge, pieces: AsyncIterator[bytes]) -> None:
        self._bridge = bridge
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, b"" at the end."""
        if not self._rest:
            self._rest = self._bridge.call(self._next())
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    async def _next(self) -> bytes:
        # Large pieces: a turn through the loop costs some 100 us.
        pieces: list[bytes] = []
        size = 0
        while size < 256 << 10:
            piece = await anext(self._pieces, b"")
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)


class Feed:
    """Pieces from the thread to a coroutine that iterates them; `put` no longer waits once that has ended."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(4)
        self._closed = False

    async def put(self, piece: bytes) -> None:
        """The next bytes; b"" ends them."""
        if not self._closed:
            await self._queue.put(piece)

    def close(self) -> None:
        """The reader has ended: what is still put goes nowhere."""
        self._closed = True
        while not self._queue.empty():
            self._queue.get_nowait()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self._queue.get():
            yield piece
