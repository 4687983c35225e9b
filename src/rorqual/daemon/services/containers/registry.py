"""All containers by id and name, in memory and in daemon.db."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Collection, Iterator, KeysView
from typing import Protocol

from rorqual.daemon.services.containers.record import Container, Exec, exec_from_row, from_row
from rorqual.daemon.store.daemondb import ContainerRow, ExecRow, Leftover
from rorqual.errdefs import Conflict, InvalidArgument, NotFound, ResourceExhausted

log = logging.getLogger(__name__)


class ContainerStore(Protocol):
    """Where records survive."""

    def load_containers(self) -> list[ContainerRow]:
        """All rows."""

    async def insert_container(self, row: ContainerRow, *, durable: bool) -> None:
        """Add."""

    async def update_state(self, id: str, state: str) -> None:
        """Replace the state's document."""

    async def update_document(self, row: ContainerRow) -> None:
        """Replace name and documents."""

    async def delete_container(self, id: str, leftover: Leftover, *, durable: bool) -> None:
        """Remove, noting what is still to be deleted."""

    def load_execs(self) -> list[ExecRow]:
        """All rows."""

    async def put_exec(self, row: ExecRow) -> None:
        """Add or replace."""

    async def delete_execs(self, container: str, ids: Collection[str]) -> None:
        """Remove."""


class Registry:
    """Finds containers as Docker does: by full id, by name, by a unique prefix of the id."""

    def __init__(self, store: ContainerStore) -> None:
        self._store = store
        self._by_id: dict[str, Container] = {}
        self._names: dict[str, str] = {}  # name -> id, reserved ones included
        self._execs: dict[str, Exec] = {}

    def load(self) -> None:
        """Read the store (blocking; at start-up)."""
        for row in self._store.load_containers():
            self._by_id[row.id] = from_row(row)
            self._names[row.name] = row.id
        for stored in self._store.load_execs():
            self._hold(self._by_id[stored.container], exec_from_row(stored))

    def __iter__(self) -> Iterator[Container]:
        return iter(tuple(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def names(self) -> KeysView[str]:
        """The taken names."""
        return self._names.keys()

    def by_id(self, id: str) -> Container | None:
        """The container with exactly this id."""
        return self._by_id.get(id)

    def get(self, reference: str) -> Container:
        """Raises: NotFound, InvalidArgument for a prefix that several ids have."""
        found = self._by_id.get(reference)
        if found is not None:
            return found
        id = self._names.get(reference.lstrip("/"))
        if id is not None and id in self._by_id:
            return self._by_id[id]
        if not reference:
            raise InvalidArgument('invalid name or ID supplied: ""')
        matches = [c for key, c in self._by_id.items() if key.startswith(reference)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise InvalidArgument(f"multiple IDs found with provided prefix: {reference}")
        raise NotFound(f"No such container: {reference}")

    @contextlib.contextmanager
    def reserved(self, name: str, id: str) -> Iterator[None]:
        """Hold `name` for `id`; it is freed again when the block fails. Raises: Conflict with Docker's text."""
        holder = self._names.get(name)
        if holder is not None:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{holder}". You have to '
                "remove (or rename) that container to be able to reuse that name."
            )
        self._names[name] = id
        try:
            yield
        except BaseException:
            self._names.pop(name, None)
            raise

    @contextlib.asynccontextmanager
    async def held(self, container: Container) -> AsyncIterator[None]:
        """The container's lock, for who changes it. Raises: NotFound when it was removed while this waited."""
        async with container.lock:
            if self._by_id.get(container.id) is not container:
                raise NotFound(f"No such container: {container.id}")
            yield

    async def add(self, container: Container) -> None:
        """Store a new container, its name reserved before."""
        # Who asked for a container that removes itself doesn't want it after a power cut.
        await self._store.insert_container(container.to_row(), durable=not container.host.auto_remove)
        self._by_id[container.id] = container

    async def save_state(self, container: Container) -> None:
        """Write its state."""
        await self._store.update_state(container.id, container.state_text())

    async def save(self, container: Container) -> None:
        """Write all of it."""
        await self._store.update_document(container.to_row())

    async def rename(self, container: Container, name: str) -> None:
        """Raises: Conflict."""
        old = container.name
        with self.reserved(name, container.id):
            container.name = name
            try:
                await self.save(container)
            except BaseException:
                container.name = old
                raise
        self._names.pop(old, None)

    async def remove(self, container: Container) -> None:
        """Forget it: the row is gone and what is left on disk noted when this returns."""
        leftover = Leftover(container.snapshot_key, container.id)
        await self._store.delete_container(container.id, leftover, durable=not container.host.auto_remove)
        self._by_id.pop(container.id, None)
        self._names.pop(container.name, None)
        for exec_id in container.execs:
            self._execs.pop(exec_id, None)

    async def add_exec(self, container: Container, new: Exec) -> None:
        """Store an exec and make it findable by its id alone."""
        self._hold(container, new)
        await self.save_exec(new)

    def _hold(self, container: Container, new: Exec) -> None:
        container.execs[new.id] = new
        self._execs[new.id] = new

    async def save_exec(self, run: Exec) -> None:
        """Write it if there is room: a full disk is cleaned up by an exec."""
        try:
            await self._store.put_exec(run.to_row())
        except ResourceExhausted as e:
            log.warning("exec %s would not be known to the next daemon: %s", run.id, e)

    async def drop_execs(self, container: Container, ids: Collection[str]) -> None:
        """Forget them."""
        for id in ids:
            container.execs.pop(id, None)
            self._execs.pop(id, None)
        await self._store.delete_execs(container.id, ids)

    def exec(self, id: str) -> Exec:
        """Raises: NotFound."""
        found = self._execs.get(id)
        if found is None:
            raise NotFound(f"No such exec instance: {id}")
        return found
