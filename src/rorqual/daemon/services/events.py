"""Events: published by every service, streamed to clients, kept in the journal.

Publishing writes the journal and wakes the listeners. A listener is only a position in time: it reads the newest events
from memory, and from the journal when it has fallen behind, so that one who reads slowly neither loses events nor makes
the daemon grow.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from rorqual.api import codec
from rorqual.api.system import EventActor, EventMessage
from rorqual.daemon.services.clock import now_ns
from rorqual.daemon.services.filters import Filters
from rorqual.errdefs import Error

log = logging.getLogger(__name__)

_FILTER_KEYS = "config container daemon event image label network node plugin scope secret service type volume id"
FILTER_KEYS = frozenset(_FILTER_KEYS.split())
_RECENT = 1024  # events held in memory
_BATCH = 256  # read from the journal at a time
_RECOVERED = 2048  # events of the last run that are looked at for what it had told already


class JournalStore(Protocol):
    """Where events are kept, by time."""

    def append(self, time_ns: int, body: bytes) -> None:
        """Add one. Raises: OSError."""

    def after(self, time_ns: int, limit: int) -> list[bytes]:
        """At most `limit` after that time, the oldest first (blocking)."""

    def last(self, count: int) -> list[bytes]:
        """The newest (blocking)."""


class Events:
    """The one publisher; streams end at stop()."""

    def __init__(self, journal: JournalStore) -> None:
        self._journal = journal
        self._recent: deque[EventMessage] = deque(maxlen=_RECENT)
        self._forgotten_ns = 0  # the newest event that is in the journal only
        self._last_ns = 0
        self._listeners: set[asyncio.Event] = set()
        self._stopped = False
        self._disk_failed = False
        self._told: dict[tuple[str, str, str], EventMessage] = {}

    def start(self) -> None:
        """Learn what the last run had told (blocking; the journal is open)."""
        for body in self._journal.last(_RECOVERED):
            event = _parse(body)
            if event is not None:
                self._last_ns = self._forgotten_ns = event.time_nano
                exec_id = (event.actor.attributes or {}).get("execID", "")
                self._told[event.actor.id, event.action.split(":", 1)[0], exec_id] = event

    def told(self, actor_id: str, action: str, since_ns: int, exec_id: str = "") -> EventMessage | None:
        """The newest event of that kind that the last run of the daemon published of the actor (or its exec), after
        `since_ns`.

        A daemon that was killed between telling and storing would tell again what it finds unrecorded. An answer is
        given once: what happens later is this run's to tell.
        """
        event = self._told.pop((actor_id, action, exec_id), None)
        return event if event is not None and event.time_nano > since_ns else None

    async def stop(self) -> None:
        """End every stream."""
        self._stopped = True
        for wake in self._listeners:
            wake.set()

    @property
    def listeners(self) -> int:
        """How many streams are open."""
        return len(self._listeners)

    def publish(
        self, kind: str, action: str, actor_id: str, attributes: Mapping[str, str], scope: str = "local"
    ) -> None:
        """Tell everybody. `kind` is container, image, network, volume, node or daemon; `scope` local or swarm."""
        # Strictly increasing, so that `since=<last timeNano>` neither loses nor confuses events.
        self._last_ns = time_ns = max(now_ns(), self._last_ns + 1)
        image = attributes.get("image", "") if kind == "container" else ""
        message = EventMessage(
            status=action if kind in ("container", "image") else "",
            short_id=actor_id if kind in ("container", "image") else "",
            from_image=image,
            type=kind,
            action=action,
            actor=EventActor(actor_id, dict(attributes)),
            scope=scope,
            time=time_ns // 1_000_000_000,
            time_nano=time_ns,
        )
        self._keep(message)
        if len(self._recent) == _RECENT:
            self._forgotten_ns = self._recent[0].time_nano
        self._recent.append(message)
        for wake in self._listeners:
            wake.set()

    def _keep(self, message: EventMessage) -> None:
        try:
            self._journal.append(message.time_nano, codec.to_bytes(message))
        except OSError as e:  # a full disk must not stop containers; said once, not for every event
            if not self._disk_failed:
                log.warning("events: the journal cannot be written: %s", e)
            self._disk_failed = True
        else:
            self._disk_failed = False

    async def stream(self, since_ns: int | None, until_ns: int | None, filters: Filters) -> AsyncIterator[EventMessage]:
        """Past events from `since`, then new ones until `until`; forever without. Close it to end it early."""
        wake = asyncio.Event()
        self._listeners.add(wake)
        # Docker's rule: with `until` alone, everything before it.
        position = self._last_ns if since_ns is None and until_ns is None else (since_ns or 0) - 1
        try:
            while not self._stopped:
                wake.clear()
                batch = await self._after(position)
                for event in batch:
                    position = event.time_nano
                    if until_ns is not None and position > until_ns:
                        return
                    if matches(event, filters):
                        yield event
                if not batch and not await self._more(wake, until_ns):
                    return
        finally:
            self._listeners.discard(wake)

    async def _after(self, position: int) -> list[EventMessage]:
        if position < self._forgotten_ns:
            bodies = await asyncio.to_thread(self._journal.after, position, _BATCH)
            events = [event for body in bodies if (event := _parse(body)) is not None]
            if events:
                return events
        found: list[EventMessage] = []
        for event in reversed(self._recent):
            if event.time_nano <= position:
                break
            found.append(event)
        found.reverse()
        return found

    async def _more(self, wake: asyncio.Event, until_ns: int | None) -> bool:
        """Wait for the next event; False when `until` comes first."""
        timeout_s = None if until_ns is None else (until_ns - now_ns()) / 1e9
        if timeout_s is not None and timeout_s <= 0:
            return False
        try:
            async with asyncio.timeout(timeout_s):
                await wake.wait()
        except TimeoutError:
            return False
        return True


def _parse(body: bytes) -> EventMessage | None:
    try:
        return codec.from_json(EventMessage, json.loads(body))
    except (ValueError, Error):
        return None  # torn by a power cut


def matches(event: EventMessage, filters: Filters) -> bool:
    """The rules of Docker's events filter. Source: Engine API 1.56, SystemEvents."""
    if not filters:
        return True
    action = event.action.split(":", 1)[0]
    given = filters.get("event")
    if given and event.action not in given and action not in given:
        return False
    if not filters.one_of("type", event.type) or not filters.one_of("scope", event.scope):
        return False
    if not filters.labels("label", event.actor.attributes):
        return False
    if "id" in filters and not any(event.actor.id.startswith(v) for v in filters.get("id")):
        return False
    for kind in ("container", "plugin", "volume", "network", "daemon", "service", "node", "secret", "config"):
        if kind in filters and not (event.type == kind and _names(event, filters.get(kind))):
            return False
    return "image" not in filters or _image_matches(event, filters.get("image"))


def _names(event: EventMessage, values: tuple[str, ...]) -> bool:
    name = event.actor.attributes.get("name", "")
    return any(name.startswith(v) or event.actor.id.startswith(v) for v in values)


def _image_matches(event: EventMessage, values: tuple[str, ...]) -> bool:
    names = {event.actor.id, event.actor.attributes.get("image", "")}
    if event.type == "image":
        names.add(event.actor.attributes.get("name", ""))
    for name in tuple(names):
        head, _, last = name.rpartition("/")
        names.add((head + "/" if head else "") + last.split(":", 1)[0])
    return any(v in names for v in values)
