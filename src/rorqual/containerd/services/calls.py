"""What every service does with a call: its namespace and lease, the one request and answer of a unary method."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NamedTuple, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from grpclib.server import Stream

from rorqual.containerd.identifiers import check_identifier
from rorqual.errdefs import Conflict, InvalidArgument
from rorqual.rpc.channel import LEASE, NAMESPACE

S = TypeVar("S")


class Scope(NamedTuple):
    """Of a call. `ns` is "" when none was given; `lease` holds what the call makes."""

    ns: str
    lease: str


def scope_of(stream: Stream[Any, Any]) -> Scope:
    """From the call's metadata. Raises InvalidArgument for a bad name."""
    metadata: Mapping[str, str | bytes] = stream.metadata or {}
    ns = str(metadata.get(NAMESPACE, ""))
    if ns:
        check_identifier(ns, "namespace")
    return Scope(ns, str(metadata.get(LEASE, "")))


def need_namespace(scope: Scope) -> Scope:
    """The scope itself. Raises Conflict (containerd's FailedPrecondition) without a namespace."""
    if not scope.ns:
        raise Conflict("namespace is required: failed precondition")
    return scope


async def receive(stream: Stream[Any, Any]) -> Any:
    """The one request. Raises InvalidArgument when the client sent none."""
    request = await stream.recv_message()
    if request is None:
        raise InvalidArgument("no request message")
    return request


def unary(
    method: Callable[[S, Scope, Any], Awaitable[Any]],
) -> Callable[[S, Stream[Any, Any]], Coroutine[Any, Any, None]]:
    """Turns `async method(self, scope, request) -> answer` into grpclib's handler; a namespace is required."""

    async def handler(self: S, stream: Stream[Any, Any]) -> None:
        scope = need_namespace(scope_of(stream))
        await stream.send_message(await method(self, scope, await receive(stream)))

    handler.__doc__ = method.__doc__
    return handler


def timestamp(time_ns: int) -> Timestamp | None:
    """The wire form; None for 0, never."""
    if not time_ns:
        return None
    seconds, nanos = divmod(time_ns, 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)
