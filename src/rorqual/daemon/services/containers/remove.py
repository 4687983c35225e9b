"""Removal: the row goes first, and with it the name; the files follow in the background and at the next start."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Iterable, Sequence
from typing import Protocol

from rorqual.daemon.background import Background
from rorqual.daemon.remote import Snapshots
from rorqual.daemon.services.containers import attach
from rorqual.daemon.services.containers.networking import Networking
from rorqual.daemon.services.containers.record import Container
from rorqual.daemon.services.containers.registry import Registry
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.volumes import Volumes
from rorqual.daemon.spec import mounts
from rorqual.daemon.store.daemondb import Leftover
from rorqual.errdefs import Conflict, Error

log = logging.getLogger(__name__)


class LeftoverStore(Protocol):
    """What is still to be deleted."""

    async def delete_leftovers(self, snapshots: Iterable[str]) -> None:
        """They are deleted."""


class Remover:
    """Removes containers that don't run."""

    def __init__(
        self,
        registry: Registry,
        networking: Networking,
        snapshots: Snapshots,
        volumes: Volumes,
        store: LeftoverStore,
        events: Events,
        background: Background,
    ) -> None:
        self._registry = registry
        self._networking = networking
        self._snapshots = snapshots
        self._volumes = volumes
        self._store = store
        self._events = events
        self._background = background

    async def remove(self, container: Container, *, volumes: bool) -> None:
        """Under the container's lock. Raises: Conflict when it runs."""
        if container.retry is not None:
            container.retry.cancel()
            container.retry = None
        container.state = container.state.remove()
        container.removing = True
        attach.drop(container)
        await self._registry.remove(container)
        leftover = Leftover(container.snapshot_key, container.id)
        self._background.spawn(self.clean([leftover]), f"remove {container.short_id}")
        if volumes:  # before anybody is told that the container is gone
            await self._remove_volumes(container)
        self._events.publish("container", "destroy", container.id, container.event_attributes())
        container.wake_removal()

    async def _remove_volumes(self, container: Container) -> None:
        """Those without a name; one that was asked for by the name it was given is its user's to remove."""
        named = {wish.target for wish in mounts.wanted(container.config, container.host) if wish.source}
        for point in container.mounts:
            if point.type != "volume" or point.destination in named:
                continue
            try:
                if self._volumes.get(point.name).anonymous:
                    await self._volumes.remove(point.name, force=True)
            except Conflict:
                continue  # another container took it over with --volumes-from
            except Error as e:
                log.warning("container %s: volume %s: %s", container.id, point.name, e)

    async def clean(self, leftovers: Sequence[Leftover]) -> None:
        """Delete snapshots and files of removed containers; what fails is tried again at the next start."""
        done: list[str] = []
        for leftover in leftovers:
            try:
                await self._snapshots.remove(leftover.snapshot)
                directory = self._networking.directory_of(leftover.container)
                await asyncio.to_thread(shutil.rmtree, directory, True)
            except Error as e:
                log.warning("container %s: its files could not be removed: %s", leftover.container, e)
                continue
            done.append(leftover.snapshot)
        await self._store.delete_leftovers(done)
