"""grpclib's server, made to stay the size it had: what a call leaves behind is bounded, given up or not.

Two things grow otherwise. A call that is given up before its handler has begun (both arrive in one read) is never
released: 3 KB each, and its bytes are never given back to the connection's window, so that some tens of thousands would
stop the connection for good. And hyper-h2 keeps 65,536 ended streams a connection in mind: 10 MB at either end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from grpclib.const import Cardinality, Status
from grpclib.const import Handler as ServerHandler
from grpclib.exceptions import GRPCError
from grpclib.protocol import AbstractHandler, H2Protocol, Stream
from grpclib.server import Server

from rorqual.rpc.http2 import bound_ended_streams


class LeanServer(Server):
    """grpclib's Server for these services; nothing of a call stays."""

    def __init__(self, services: Collection[Any]) -> None:
        super().__init__(services)
        self._mapping = _Methods(self._mapping)
        bound_ended_streams()

    async def end(self) -> None:
        """Cancel every call, and wait for what the handlers do then."""
        handlers = list(self._handlers)
        for handler in handlers:
            handler.close()
        await asyncio.gather(*(handler.wait_closed() for handler in handlers))

    def _protocol_factory(self) -> H2Protocol:
        protocol = super()._protocol_factory()
        protocol.handler = _Releasing(protocol.handler)
        return protocol


class _Methods(dict[str, ServerHandler]):
    """Handlers by path. grpclib answers a path that is not there with a head that Go's client cannot read."""

    def get(self, path: str, default: Any = None) -> ServerHandler:
        """Never None."""
        return super().get(path) or ServerHandler(_unimplemented, Cardinality.STREAM_STREAM, Any, Any)


async def _unimplemented(stream: Any) -> None:
    raise GRPCError(Status.UNIMPLEMENTED, "Method not found")


class _Releasing(AbstractHandler):
    """Around grpclib's handler: a cancelled call is released at once, each call once."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler
        self._release: dict[Stream, Callable[[], None]] = {}

    @property
    def closing(self) -> bool:
        return bool(self._handler.closing)

    def accept(self, stream: Stream, headers: Any, release_stream: Callable[[], None]) -> None:
        self._release[stream] = release_stream
        self._handler.accept(stream, headers, lambda: self._once(stream))

    def cancel(self, stream: Stream) -> None:
        self._handler.cancel(stream)
        self._once(stream)

    def close(self) -> None:
        self._handler.close()

    def _once(self, stream: Stream) -> None:
        release = self._release.pop(stream, None)
        if release is not None:
            release()
