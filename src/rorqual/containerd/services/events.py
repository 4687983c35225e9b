"""containerd.services.events.v1 for clients, and Forward for shims over ttrpc."""

from __future__ import annotations

from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError

from rorqual.containerd.events import Exchange
from rorqual.containerd.services.calls import Scope, receive, unary
from rorqual.errdefs import InvalidArgument
from rorqual.rpc.proto import events_pb2 as pb
from rorqual.rpc.proto import ttrpc_events_pb2
from rorqual.rpc.proto.envelope_pb2 import Envelope
from rorqual.rpc.proto.events_grpc import EventsBase

TTRPC_FORWARD = "containerd.services.events.ttrpc.v1.Events/Forward"


class EventsService(EventsBase):
    """Over the exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    @unary
    async def Publish(self, scope: Scope, request: pb.PublishRequest) -> Empty:
        envelope = Envelope(namespace=scope.ns, topic=request.topic, event=request.event)
        envelope.timestamp.GetCurrentTime()
        self._exchange.forward(envelope)
        return Empty()

    async def Forward(self, stream: Any) -> None:
        self._exchange.forward((await receive(stream)).envelope)
        await stream.send_message(Empty())

    async def Subscribe(self, stream: Any) -> None:
        request = await receive(stream)
        subscription = self._exchange.subscribe(request.filters)
        try:
            await stream.send_initial_metadata()  # the client knows that it misses nothing from here on
            while True:
                await stream.send_message(await subscription.next())
        finally:
            self._exchange.unsubscribe(subscription)


async def forward_from_shim(exchange: Exchange, payload: bytes) -> bytes:
    """The ttrpc method. Raises InvalidArgument."""
    try:
        request = ttrpc_events_pb2.ForwardRequest.FromString(payload)
    except DecodeError as e:
        raise InvalidArgument(f"events: malformed request: {e}") from e
    exchange.forward(request.envelope)
    return b""
