"""A swarm's state without etcd: its backend in memory, for tests of what stands on it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from rorqual.rpc.status import ConnectionLost
from rorqual.swarm.keys import Sealer, new_state_key
from rorqual.swarm.store.client import Entry
from rorqual.swarm.store.state import State


class Memory:
    """What store.client.Etcd does, for one process. `cut` loses the connection of who follows it."""

    def __init__(self) -> None:
        self.entries: dict[bytes, tuple[bytes, int]] = {}
        self.revision = 1
        self.log: list[tuple[int, Entry]] = []
        self.loads = 0
        self._changed = asyncio.Condition()
        self._cuts = 0

    async def load(self, prefix: bytes) -> tuple[list[Entry], int]:
        self.loads += 1
        found = [Entry(key, value, at) for key, (value, at) in self.entries.items() if key.startswith(prefix)]
        return found, self.revision

    async def commit(
        self, puts: Mapping[bytes, bytes], deletes: Sequence[bytes], expected: Mapping[bytes, int]
    ) -> int | None:
        if any(self.entries.get(key, (b"", 0))[1] != revision for key, revision in expected.items()):
            return None
        self.revision += 1
        for key, value in puts.items():
            self.entries[key] = value, self.revision
            self.log.append((self.revision, Entry(key, value, self.revision)))
        for key in deletes:
            self.entries.pop(key, None)
            self.log.append((self.revision, Entry(key, None, self.revision)))
        async with self._changed:
            self._changed.notify_all()
        return self.revision

    async def watch(self, prefix: bytes, start: int) -> AsyncIterator[list[Entry]]:
        position, cuts = start, self._cuts
        while True:
            found = [entry for revision, entry in self.log if revision >= position]
            if found:
                position = found[-1].revision + 1
                yield found
            async with self._changed:
                while self.revision < position and self._cuts == cuts:
                    await self._changed.wait()
            if self._cuts != cuts:
                raise ConnectionLost("cut")

    async def cut(self) -> None:
        self._cuts += 1
        async with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing is held."""


class Always:
    """A server that is always there."""

    async def ensure(self) -> None:
        """It is."""

    def reap(self) -> None:
        """It has not ended."""


@asynccontextmanager
async def opened(backend: Memory, key: bytes = b"") -> AsyncIterator[State]:
    """A state on this backend, open."""
    state = State(Always(), backend, Sealer(key or new_state_key()))
    await state.open()
    try:
        yield state
    finally:
        await state.close()
