"""Tells containerd what nobody asked for (OOM kills, health): Events/Forward over ttrpc, one short connection each."""

from __future__ import annotations

import time

from rorqual.rpc import ttrpc, unixsock
from rorqual.rpc.wire import Any_, Empty, Field, Message, Timestamp, message

EVENTS_SERVICE = "containerd.services.events.ttrpc.v1.Events"
OOM, HEALTH = "/tasks/oom", "/tasks/health"
_TYPES = {OOM: "containerd.events.TaskOOM", HEALTH: "rorqual.shim.v1.TaskHealth"}
_TIMEOUT_S = 2.0  # the event is also a file in the bundle: never hold the shim up for it


@message
class TaskEvent(Message):
    """containerd.events.TaskOOM, and ours of health: both only name the container."""

    container_id: str = ""
    FIELDS = (Field(1, "container_id", "string"),)


@message
class Envelope(Message):
    """containerd.types.Envelope."""

    timestamp: Timestamp | None = None
    namespace: str = ""
    topic: str = ""
    event: Any_ | None = None
    FIELDS = (
        Field(1, "timestamp", Timestamp),
        Field(2, "namespace", "string"),
        Field(3, "topic", "string"),
        Field(4, "event", Any_),
    )


@message
class ForwardRequest(Message):
    """The request of Events/Forward."""

    envelope: Envelope | None = None
    FIELDS = (Field(1, "envelope", Envelope),)


def forward(address: str, namespace: str, topic: str, container_id: str) -> None:
    """Publish one. Raises OSError when containerd cannot be reached, and its error."""
    event = Any_(_TYPES[topic], TaskEvent(container_id).encode())
    envelope = Envelope(Timestamp.from_ns(time.time_ns()), namespace, topic, event)
    request = ttrpc.Request(EVENTS_SERVICE, "Forward", ForwardRequest(envelope).encode())
    parser = ttrpc.Parser()
    with unixsock.connect(address, timeout_s=_TIMEOUT_S) as sock:
        sock.sendall(ttrpc.pack(1, ttrpc.REQUEST, request))
        while data := sock.recv(65536):
            for frame in parser.feed(data):
                ttrpc.Response.decode(frame.payload).result(Empty)
                return
