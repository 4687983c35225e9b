"""All of a swarm's objects in memory, and their changes in etcd.

Reads are of memory. A change is one transaction: it names the revision of each object that it was made from, so that of
two at once one fails, whichever manager they come from. Every change, one's own too, comes to memory by a watch, in the
order in which they were made; `commit` returns when it is there. After etcd was away all of the state is read anew.

An object's value is sealed: etcd's files tell nothing of a swarm's secrets. A name is a key of its own, so that no two
objects of a kind can have the same.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rorqual.errdefs import DataLoss, InvalidArgument, Unavailable
from rorqual.swarm.keys import Sealer
from rorqual.swarm.store.client import Entry

log = logging.getLogger(__name__)

_PREFIX = b"/rorqual/1/"
_OBJECTS, _NAMES = _PREFIX + b"objects/", _PREFIX + b"names/"
_AGAIN_S = 0.2
OUT_OF_SEQUENCE = "update out of sequence"


@dataclass(frozen=True, slots=True)
class Stored:
    """An object. `revision` is what an update of it must name; `name` "" where its kind has none."""

    kind: str
    id: str
    value: Mapping[str, Any]
    name: str = ""
    revision: int = 0


class Backend(Protocol):
    """etcd, as the state uses it: see store.client."""

    async def load(self, prefix: bytes) -> tuple[list[Entry], int]:
        """All, and the revision."""

    async def commit(
        self, puts: Mapping[bytes, bytes], deletes: Sequence[bytes], expected: Mapping[bytes, int]
    ) -> int | None:
        """All or nothing."""

    def watch(self, prefix: bytes, start: int) -> AsyncIterator[list[Entry]]:
        """From then on."""

    def close(self) -> None:
        """Let go."""


class Server(Protocol):
    """etcd's process: see store.process."""

    async def ensure(self) -> None:
        """It answers, or Unavailable."""

    def reap(self) -> None:
        """It may have ended."""


class State:
    """Between open and close, in one event loop."""

    def __init__(self, server: Server, backend: Backend, sealer: Sealer) -> None:
        self._server, self._backend, self._sealer = server, backend, sealer
        self._objects: dict[tuple[str, str], Stored] = {}
        self._revision = 0  # of etcd's store, which memory has
        self._moved = asyncio.Condition()
        self._closed = False
        self._follower: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Read everything. Raises: Unavailable, DataLoss for what another key has sealed."""
        await self._server.ensure()
        await self._load()
        self._follower = asyncio.create_task(self._follow(), name="swarm's state")

    async def close(self) -> None:
        """Let go of etcd, which goes on. Changes that are not in memory yet fail."""
        self._closed = True
        async with self._moved:
            self._moved.notify_all()
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        self._backend.close()

    # --- reading

    def all(self, kind: str) -> list[Stored]:
        """Of that kind, in no order."""
        return [stored for (of, _), stored in self._objects.items() if of == kind]

    def get(self, kind: str, id: str) -> Stored | None:
        """The one of that id."""
        return self._objects.get((kind, id))

    def named(self, kind: str, name: str) -> Stored | None:
        """The one of that name."""
        return next((stored for stored in self.all(kind) if name and stored.name == name), None)

    # --- changing

    async def commit(self, *, put: Sequence[Stored] = (), delete: Sequence[Stored] = ()) -> None:
        """Make the change: each object as it is to be, with the revision of what it was made from (0: it is new).

        Raises: InvalidArgument when an object was changed meanwhile, or a name is taken, Unavailable.
        """
        puts: dict[bytes, bytes] = {}
        deletes: list[bytes] = []
        expected: dict[bytes, int] = {}
        for stored in put:
            key = _key(stored)
            puts[key] = self._sealer.seal(_encode(stored), key)
            expected[key] = stored.revision
            had = self.get(stored.kind, stored.id)
            if stored.name and (had is None or had.name != stored.name):
                puts[_name_key(stored)] = b""
                expected[_name_key(stored)] = 0
            if had is not None and had.name and had.name != stored.name:
                deletes.append(_name_key(had))
        for stored in delete:
            deletes.append(_key(stored))
            expected[_key(stored)] = stored.revision
            if stored.name:
                deletes.append(_name_key(stored))
        revision = await self._backend.commit(puts, deletes, expected)
        if revision is None:
            raise InvalidArgument(OUT_OF_SEQUENCE)
        async with self._moved:
            await self._moved.wait_for(lambda: self._revision >= revision or self._closed)
        if self._revision < revision:
            raise Unavailable("this node has left the swarm")

    # --- following

    async def _load(self) -> None:
        entries, revision = await self._backend.load(_PREFIX)
        found = [self._read(entry) for entry in entries]
        self._objects = {(stored.kind, stored.id): stored for stored in found if stored is not None}
        await self._move(revision)

    async def _move(self, revision: int) -> None:
        self._revision = revision
        async with self._moved:
            self._moved.notify_all()

    async def _follow(self) -> None:
        while True:
            try:
                async for entries in self._backend.watch(_PREFIX, self._revision + 1):
                    for entry in entries:
                        self._apply(entry)
                    await self._move(entries[-1].revision)
            except (Unavailable, DataLoss) as e:
                log.warning("the swarm's state is away: %s", e)
            await self._again()

    async def _again(self) -> None:
        while True:
            await asyncio.sleep(_AGAIN_S)
            self._server.reap()
            try:
                await self._server.ensure()
                await self._load()
            except (Unavailable, DataLoss, OSError) as e:
                log.error("the swarm's state cannot be read: %s", e)
                continue
            return

    def _apply(self, entry: Entry) -> None:
        if entry.value is None:
            self._objects.pop(_place(entry.key), None)
        elif (stored := self._read(entry)) is not None:
            self._objects[stored.kind, stored.id] = stored

    def _read(self, entry: Entry) -> Stored | None:
        """The object that the entry is, None for a name. Raises: DataLoss."""
        if entry.value is None or not entry.key.startswith(_OBJECTS):
            return None
        kind, id = _place(entry.key)
        content = json.loads(self._sealer.open(entry.value, entry.key))
        return Stored(kind, id, content["value"], content["name"], entry.revision)


def _place(key: bytes) -> tuple[str, str]:
    kind, _, id = key.removeprefix(_OBJECTS).decode().partition("/")
    return kind, id


def _key(stored: Stored) -> bytes:
    return _OBJECTS + f"{stored.kind}/{stored.id}".encode()


def _name_key(stored: Stored) -> bytes:
    return _NAMES + f"{stored.kind}/{stored.name}".encode()


def _encode(stored: Stored) -> bytes:
    return json.dumps({"name": stored.name, "value": stored.value}, separators=(",", ":")).encode()
