"""Clients on a container's streams: their connections are handed to the shim, at once or when the task exists.

`docker run` attaches before it starts: such a connection waits in the container's `pending` list, watched by its
handler, until the task is there (then the shim has it), or the start fails, or the client goes away.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from rorqual.daemon.services.containers.record import Container, Exec
from rorqual.daemon.services.events import Events
from rorqual.errdefs import Conflict
from rorqual.rpc.stream import Attach, StreamSocket


class Connection(Protocol):
    """A client's hijacked connection."""

    def take(self) -> tuple[int, bytes]:
        """(a descriptor that the caller owns, bytes the client sent already); nothing is read here after that."""

    def write(self, data: bytes) -> None:
        """Send; only before take, or after a take that failed."""

    def close(self) -> None:
        """Close this process's end. Again is no error."""


@dataclass(slots=True, eq=False)
class Pending:
    """A connection that waits for the task."""

    request: Attach
    connection: Connection
    done: asyncio.Future[None]


class Streams:
    """Finds the shims' stream sockets below containerd's state directory."""

    def __init__(self, state_dir: Path, namespace: str, events: Events) -> None:
        self._tasks = state_dir / "tasks" / namespace
        self._events = events

    async def hand_over(self, container_id: str, request: Attach, connection: Connection) -> None:
        """Give the connection to the shim. Raises: Unavailable, NotFound, InvalidArgument."""
        fd, early = connection.take()
        try:
            with StreamSocket(self._tasks / container_id / "stream.sock") as stream:
                await stream.attach(replace(request, early=early), fd)
        finally:
            os.close(fd)

    async def attach(self, container: Container, request: Attach, connection: Connection) -> None:
        """Returns when the connection is the shim's, or is of no use any more. Raises: Conflict."""
        if container.state.status == "paused":
            raise Conflict(f"container {container.id} is paused, unpause the container before attach")
        self.attached(container)
        if container.state.running:
            await self.hand_over(container.id, request, connection)
            connection.close()
            return
        with self._waiting(container, request, connection) as pending:
            await pending.done

    def attached(self, container: Container) -> None:
        """Tell that a client came."""
        self._events.publish("container", "attach", container.id, container.event_attributes())

    @contextlib.contextmanager
    def _waiting(self, container: Container, request: Attach, connection: Connection) -> Iterator[Pending]:
        pending = Pending(request, connection, asyncio.get_running_loop().create_future())
        container.pending.append(pending)
        try:
            yield pending
        finally:
            if pending in container.pending:
                container.pending.remove(pending)
            connection.close()

    async def deliver(self, container: Container) -> None:
        """The task exists: hand over who waited. A connection that can't be is closed."""
        waiting = list(container.pending)
        container.pending.clear()
        for pending in waiting:
            try:
                await self.hand_over(container.id, pending.request, pending.connection)
            finally:
                if not pending.done.done():
                    pending.done.set_result(None)

    async def exec(self, run: Exec, request: Attach, connection: Connection) -> None:
        """Hand a client to an exec that was added and not yet started. Raises: as hand_over."""
        await self.hand_over(run.container_id, request, connection)

    async def clients(self, run: Exec) -> int:
        """How many the shim holds for an exec. Raises: Unavailable, NotFound."""
        with StreamSocket(self._tasks / run.container_id / "stream.sock") as stream:
            return int((await stream.info(run.id))["attached"])


def drop(container: Container) -> None:
    """Close who waits: the start failed, or the container goes away."""
    for pending in list(container.pending):
        if not pending.done.done():
            pending.done.set_result(None)
    container.pending.clear()
