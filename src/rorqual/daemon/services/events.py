"""Events: published by every service, streamed to clients, kept in the journal.

Publishing costs an append to a list and a put for each listener; the journal follows in the background, in groups.
A listener that doesn't read is cut off after _QUEUE_MAX events instead of growing without bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from rorqual.api import codec
from rorqual.api.system import EventActor, EventMessage
from rorqual.daemon.services.clock import now_ns
from rorqual.daemon.services.filters import Filters

log = logging.getLogger(__name__)

_FILTER_KEYS = "config container daemon event image label network node plugin scope secret service type volume id"
FILTER_KEYS = frozenset(_FILTER_KEYS.split())
_QUEUE_MAX = 16_384


class JournalStore(Protocol):
    """Where events are kept."""

    async def append(self, events: list[tuple[int, str]]) -> None:
        """Add (time in ns, JSON) of each."""

    async def between(self, since_ns: int, until_ns: int) -> list[str]:
        """JSON of the events in that time."""


class Events:
    """Owns the flush task between start() and stop()."""

    def __init__(self, journal: JournalStore) -> None:
        self._journal = journal
        self._listeners: set[asyncio.Queue[EventMessage | None]] = set()
        self._unsaved: list[EventMessage] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._last_ns = 0

    def start(self) -> None:
        """Begin to write the journal."""
        self._task = asyncio.create_task(self._write(), name="events journal")

    async def stop(self) -> None:
        """End every stream; write what is left."""
        for queue in self._listeners:
            queue.put_nowait(None)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._flush()

    @property
    def listeners(self) -> int:
        """How many streams are open."""
        return len(self._listeners)

    def publish(self, kind: str, action: str, actor_id: str, attributes: Mapping[str, str]) -> None:
        """Tell everybody. `kind` is container, image, network, volume or daemon."""
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
            scope="local",
            time=time_ns // 1_000_000_000,
            time_nano=time_ns,
        )
        self._unsaved.append(message)
        self._wake.set()
        for queue in tuple(self._listeners):
            if queue.qsize() >= _QUEUE_MAX:
                self._listeners.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(message)

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(0.02)  # a start makes several events: one transaction for all
            await self._flush()

    async def _flush(self) -> None:
        self._wake.clear()
        batch, self._unsaved = self._unsaved, []
        if not batch:
            return
        rows = [(e.time_nano, codec.to_bytes(e).decode()) for e in batch]
        try:
            await self._journal.append(rows)
        except Exception:
            log.exception("events: %d events could not be written to the journal", len(batch))

    async def stream(self, since_ns: int | None, until_ns: int | None, filters: Filters) -> AsyncIterator[EventMessage]:
        """Past events from `since`, then new ones until `until`; forever without. Cancel to end it."""
        queue: asyncio.Queue[EventMessage | None] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            last_ns = 0
            if since_ns is not None or until_ns is not None:
                await self._flush()
                begin = since_ns if since_ns is not None else now_ns()
                for body in await self._journal.between(begin, until_ns if until_ns is not None else now_ns()):
                    event = codec.from_json(EventMessage, json.loads(body))
                    last_ns = event.time_nano
                    if matches(event, filters):
                        yield event
            while True:
                timeout_s = None if until_ns is None else (until_ns - now_ns()) / 1e9
                if timeout_s is not None and timeout_s <= 0:
                    return
                try:
                    async with asyncio.timeout(timeout_s):
                        new = await queue.get()
                except TimeoutError:
                    return
                if new is None:
                    return
                if new.time_nano > last_ns and matches(new, filters):
                    yield new
        finally:
            self._listeners.discard(queue)


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
    return any(v == name or v == event.actor.id or (len(v) >= 4 and event.actor.id.startswith(v)) for v in values)


def _image_matches(event: EventMessage, values: tuple[str, ...]) -> bool:
    names = {event.actor.id, event.actor.attributes.get("image", "")}
    if event.type == "image":
        names.add(event.actor.attributes.get("name", ""))
    for name in tuple(names):
        head, _, last = name.rpartition("/")
        names.add((head + "/" if head else "") + last.split(":", 1)[0])
    return any(v in names for v in values)
