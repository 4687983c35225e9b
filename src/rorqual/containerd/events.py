"""The event exchange: every service publishes into it, Subscribe and the log read from it. Lives in memory only.

An envelope's type_url is the message's full name ("containerd.events.TaskExit"), as containerd's clients expect.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence

from google.protobuf import symbol_database
from google.protobuf.message import DecodeError, Message

from rorqual.containerd.filters import Predicate, compile_filters
from rorqual.errdefs import InvalidArgument, ResourceExhausted
from rorqual.rpc.proto.envelope_pb2 import Envelope

_BACKLOG_MAX = 20_000


class Subscription:
    """What one subscriber has not read yet. Close it through Exchange.unsubscribe."""

    def __init__(self, predicate: Predicate) -> None:
        self._predicate = predicate
        self._queue: asyncio.Queue[Envelope | None] = asyncio.Queue()

    def offer(self, envelope: Envelope) -> bool:
        """Queue it when it matches. False: too far behind, ended rather than left to fill the memory."""
        if self._queue.qsize() >= _BACKLOG_MAX:
            self._queue.put_nowait(None)
            return False
        if self._predicate(lambda path: _field(envelope, path)):
            self._queue.put_nowait(envelope)
        return True

    async def next(self) -> Envelope:
        """The next event. Raises ResourceExhausted when this subscriber was ended."""
        envelope = await self._queue.get()
        if envelope is None:
            raise ResourceExhausted(f"events: subscriber was {_BACKLOG_MAX} events behind")
        return envelope


class Exchange:
    """All subscriptions."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()

    def publish(self, ns: str, topic: str, event: Message) -> None:
        """Send an event of this process."""
        if not self._subscriptions:
            return
        envelope = Envelope(namespace=ns, topic=topic)
        envelope.timestamp.FromNanoseconds(time.time_ns())
        envelope.event.type_url = event.DESCRIPTOR.full_name
        envelope.event.value = event.SerializeToString()
        self._send(envelope)

    def forward(self, envelope: Envelope) -> None:
        """Send another process's event. Raises InvalidArgument for one without namespace, topic or time."""
        if not envelope.namespace or not envelope.topic.startswith("/") or envelope.topic == "/":
            raise InvalidArgument(f'event: namespace "{envelope.namespace}" or topic "{envelope.topic}" is not valid')
        if not envelope.HasField("timestamp"):
            raise InvalidArgument("event: timestamp must be set on a forwarded event")
        self._send(envelope)

    def subscribe(self, filters: Iterable[str]) -> Subscription:
        """From now on. Raises InvalidArgument for a bad filter."""
        subscription = Subscription(compile_filters(filters))
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """No more events for it. A second call does nothing."""
        self._subscriptions.discard(subscription)

    def _send(self, envelope: Envelope) -> None:
        for subscription in list(self._subscriptions):
            if not subscription.offer(envelope):
                self.unsubscribe(subscription)


def _field(envelope: Envelope, path: Sequence[str]) -> str | None:
    """A field of an envelope for a filter: namespace, topic, event.<field of the event>."""
    if path[0] == "namespace" and len(path) == 1:
        return envelope.namespace
    if path[0] == "topic" and len(path) == 1:
        return envelope.topic
    if path[0] != "event" or len(path) < 2:
        return None
    try:
        value: object = symbol_database.Default().GetSymbol(envelope.event.type_url).FromString(envelope.event.value)
        for name in path[1:]:
            value = getattr(value, name)
    except (KeyError, AttributeError, DecodeError):
        return None
    return str(value)
