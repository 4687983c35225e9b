"""gRPC on a connection that began as HTTP/1.1 and was upgraded (h2c): either end of it.

Source: RFC 7540 section 3.2 without its HTTP2-Settings, as BuildKit's clients upgrade /grpc and /session.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket

from grpclib.client import Channel, Handler
from grpclib.protocol import H2Protocol
from grpclib.server import Server

from rorqual.rpc.http2 import bound_ended_streams


class _ClientProtocol(H2Protocol):
    """Tells when the peer has gone away."""

    def __init__(self, handler: Handler, channel: TakenChannel) -> None:
        super().__init__(handler, channel._config, channel._h2_config)
        self._ended = channel.ended

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.connection.write_ready.set()  # grpclib leaves the calls that wait for room waiting
        self._ended.set()


class TakenChannel(Channel):
    """The calling end, over one socket, which is the channel's from now on. `ended` is set when the peer left."""

    def __init__(self, sock: socket.socket, early: bytes = b"") -> None:
        """`early`: what was read of it."""
        super().__init__()
        bound_ended_streams()
        self._sock: socket.socket | None = sock
        self._early = early
        self.ended = asyncio.Event()

    async def connect(self) -> None:
        """Begin to listen to the peer. Raises: OSError."""
        await self.__connect__()

    def _protocol_factory(self) -> H2Protocol:
        return _ClientProtocol(Handler(), self)

    async def _create_connection(self) -> H2Protocol:
        sock, self._sock = self._sock, None
        if sock is None:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        sock.setblocking(False)
        _, protocol = await self._loop.create_connection(self._protocol_factory, sock=sock)
        if self._early:
            protocol.data_received(self._early)
        return protocol


async def serve(server: Server, sock: socket.socket, early: bytes = b"") -> H2Protocol:
    """The answering end: `server` has one connection more, the socket, which is its from now on."""
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    _, protocol = await loop.connect_accepted_socket(server._protocol_factory, sock)
    if early:
        protocol.data_received(early)
    return protocol
