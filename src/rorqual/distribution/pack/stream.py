"""A tar made in a thread, read by an event loop: bounded, and given up cleanly when the reader goes away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from rorqual.distribution.pack.packer import Write
from rorqual.errdefs import Cancelled

_T = TypeVar("_T")


class Stream(Generic[_T]):
    """Iterate it once inside `async with`; afterwards `result` is what `produce` returned.

        async with Stream(lambda write: pack_it(write)) as stream:
            async for piece in stream: ...

    `produce(write)` runs in a thread of its own; `write` waits while `pieces` are unread. An error of `produce` is
    raised from the iteration. Leaving the block early makes the next `write` raise and waits for the thread's end.
    """

    def __init__(self, produce: Callable[[Write], _T], *, pieces: int = 4) -> None:
        self._produce = produce
        self._room = threading.Semaphore(pieces)
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._stopped = False
        self._loop = asyncio.get_running_loop()
        self._work: asyncio.Future[_T] | None = None
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> Stream[_T]:
        self._work = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(self._work,), name="pack", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._work is not None, "entered"
        self._stopped = True
        self._room.release()
        # The thread uses the caller's fds: it must have ended before they are closed, whoever cancels us.
        waiting = asyncio.gather(self._work, return_exceptions=True)
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            await waiting
            raise
        finally:
            # It has told its outcome, the last thing that it does.
            if self._thread is not None:
                self._thread.join()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert self._work is not None, "entered"
        while (piece := await self._queue.get()) is not None:
            self._room.release()
            yield piece
        # Raises what the thread did.
        await asyncio.shield(self._work)

    @property
    def result(self) -> _T:
        """What `produce` returned; once the iteration has ended."""
        assert self._work is not None, "entered"
        return self._work.result()

    def _write(self, data: bytes) -> None:
        self._room.acquire()
        if self._stopped:
            self._room.release()
            raise Cancelled("the reader of the archive went away")
        self._loop.call_soon_threadsafe(self._queue.put_nowait, data)

    def _run(self, work: asyncio.Future[_T]) -> None:
        try:
            value = self._produce(self._write)
        except BaseException as error:
            failure = error
            self._tell(lambda: work.set_exception(failure))
        else:
            self._tell(lambda: work.set_result(value))

    def _tell(self, outcome: Callable[[], None]) -> None:
        def deliver() -> None:
            outcome()
            self._queue.put_nowait(None)

        try:
            self._loop.call_soon_threadsafe(deliver)
        except RuntimeError:
            return  # the loop was closed: nobody waits any more
