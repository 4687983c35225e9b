"""Changes that may wait for a plugin: one at a time in each lane (a plugin, a sandbox)."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field


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
