"""Follows what the shims find out about containers' health, tells it as events, and restarts where that is asked for.

A shim writes its results to <bundle>/health and sends an event for each change; the file is also read at inspect, and
for every running container when the daemon (re)connects, so that what happened meanwhile is seen once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from rorqual.api.container import Health
from rorqual.daemon.background import Background
from rorqual.daemon.services import health
from rorqual.daemon.services.containers.record import Container
from rorqual.daemon.services.containers.registry import Registry
from rorqual.daemon.services.events import Events
from rorqual.errdefs import Error

log = logging.getLogger(__name__)

_REPORT_MAX = 1 << 20  # five results of 4 KiB each, in JSON


class HealthWatch:
    """`bundles` is the directory of the tasks' bundles; `restart` restarts an unhealthy container that asks for it."""

    def __init__(
        self,
        registry: Registry,
        bundles: Path,
        events: Events,
        background: Background,
        restart: Callable[[Container], Awaitable[None]],
    ) -> None:
        self._registry = registry
        self._bundles = bundles
        self._events = events
        self._background = background
        self._restart = restart

    def refresh(self, container: Container) -> None:
        """Take in what the shim has found; a changed status is told and stored."""
        if container.health is None or not container.state.running:
            return
        found = self._read(container.id)
        if found is None:
            return
        changed = found.status != container.health.status
        told = self._events.told(container.id, "health_status", container.state.started_ns)
        container.health = found
        if not changed:
            return
        action = f"health_status: {found.status}"
        if told is None or told.action != action:
            self._events.publish("container", action, container.id, container.event_attributes())
        self._background.spawn(self._registry.save_state(container), f"health of {container.short_id}")
        if found.status == health.UNHEALTHY and container.restart_unhealthy:
            self._background.spawn(self._restart_unhealthy(container), f"restart of unhealthy {container.short_id}")

    def ended(self, container: Container) -> None:
        """Its process has ended; its bundle is still there."""
        if container.health is not None:
            container.health = health.ended(self._read(container.id) or container.health)

    def _read(self, id: str) -> Health | None:
        """A small file on a tmpfs: read in the event loop. None before the first result."""
        try:
            with open(self._bundles / id / "health", "rb") as file:
                return health.parse_report(json.loads(file.read(_REPORT_MAX)))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError) as e:
            log.warning("container %s: its health cannot be read: %s", id, e)
            return None

    async def _restart_unhealthy(self, container: Container) -> None:
        log.info("container %s is unhealthy: restarting it, as its label asks", container.id)
        try:
            await self._restart(container)
        except Error as e:
            log.warning("container %s: restart for its health: %s", container.id, e)
