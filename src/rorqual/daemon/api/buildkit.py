"""Routes of BuildKit's clients: connections that become gRPC. Source: Engine API 1.56, Session."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from grpclib.server import Server

from rorqual.daemon import web
from rorqual.daemon.api import hijack
from rorqual.daemon.api.http import Call, Route
from rorqual.daemon.services.buildkit.sessions import Sessions
from rorqual.errdefs import InvalidArgument
from rorqual.rpc import h2c

_GRPC = "application/grpc"


@dataclass(frozen=True, slots=True)
class BuildKitRoutes:
    """What the connections are given to."""

    sessions: Sessions
    server: Server

    def routes(self) -> list[Route]:
        """Both."""
        return [Route("POST", "/session", self.session), Route("POST", "/grpc", self.grpc)]

    async def session(self, call: Call) -> web.StreamResponse:
        """POST /session: the engine calls the client, for as long as the client stays."""
        self.sessions.check(call.request.headers)
        connection = await _upgraded(call)
        try:
            await self.sessions.add(call.request.headers, *_taken(connection))
        finally:
            connection.close()
        return hijack.Hijacked()

    async def grpc(self, call: Call) -> web.StreamResponse:
        """POST /grpc: the client calls the engine."""
        connection = await _upgraded(call)
        await h2c.serve(self.server, *_taken(connection))
        connection.close()
        return hijack.Hijacked()


async def _upgraded(call: Call) -> hijack.Connection:
    """Raises: InvalidArgument."""
    protocol = call.request.headers.get("Upgrade", "")
    if protocol != "h2c":
        raise InvalidArgument(f"protocol {protocol} not supported" if protocol else "no upgrade proto in request")
    await call.body()
    return hijack.Connection(call, _GRPC)


def _taken(connection: hijack.Connection) -> tuple[socket.socket, bytes]:
    """The connection's socket, and what was read of it."""
    fd, early = connection.take()
    return socket.socket(fileno=fd), early
