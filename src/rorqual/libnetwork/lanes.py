"""Changes that may wait for a plugin: one at a time in each lane (a plugin, a sandbox), each in a thread of its own."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Lane:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Lanes:
    """For one event loop. A lane is there while somebody is in it or waits for it."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}

    @asynccontextmanager
    async def taken(self, names: Iterable[str]) -> AsyncIterator[None]:
        """All of them, once those who came before have left. Taken in the order of their names, so that nobody waits
        for another in a circle."""
        async with AsyncExitStack() as stack:
            for name in sorted(set(names)):
                lane = self._lanes.setdefault(name, _Lane())
                lane.users += 1
                stack.callback(self._left, name, lane)
                await lane.lock.acquire()
                stack.callback(lane.lock.release)
            yield

    def _left(self, name: str, lane: _Lane) -> None:
        lane.users -= 1
        if not lane.users:
            del self._lanes[name]


async def in_own_thread(work: Callable[[], T]) -> T:
    """What `work` returns or raises, in a thread that does not keep the process from ending: it may wait for a plugin
    that never answers."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:
            failure = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, result, failure)

    threading.Thread(target=run, name="libnetwork-plugin", daemon=True).start()
    return await done
