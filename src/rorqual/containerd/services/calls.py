"""What every service does with a call: its namespace and lease, the one request and answer of a unary method."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NamedTuple, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from grpclib.server import Stream

from rorqual.containerd.identifiers import check_identifier
from rorqual.errdefs import Conflict, InvalidArgument
from rorqual.rpc.channel import LEASE, NAMESPACE

log = logging.getLogger(__name__)

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


def whole(
    method: Callable[[S, Scope, Any], Coroutine[Any, Any, Any]],
) -> Callable[[S, Stream[Any, Any]], Coroutine[Any, Any, None]]:
    """As unary, for a method that must run to its end when its caller goes away: half of it is worse than none."""
    running: set[asyncio.Task[Any]] = set()

    async def to_its_end(self: S, scope: Scope, request: Any) -> Any:
        task = asyncio.create_task(method(self, scope, request))
        running.add(task)
        task.add_done_callback(running.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_unheard)
            raise

    to_its_end.__doc__ = method.__doc__
    return unary(to_its_end)


def _unheard(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.info("the caller had gone away: %s", error)


def timestamp(time_ns: int) -> Timestamp | None:
    """The wire form; None for 0, never."""
    if not time_ns:
        return None
    seconds, nanos = divmod(time_ns, 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)
