"""Listening sockets, the connections that came of them, and their end."""

from __future__ import annotations

import asyncio
import socket
import ssl

from rorqual.daemon.web.connection import Connection, Handler
from rorqual.daemon.web.tls import TlsProtocol


class Server:
    """`listen` on any number of sockets; `stop_listening` and `close` once each."""

    def __init__(self, handler: Handler, backlog: int = 128) -> None:
        self.handler = handler
        self.closing = False
        self._backlog = backlog
        self._connections: set[Connection] = set()
        self._listening: list[asyncio.Server] = []

    async def listen(self, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Serve what connects to `sock`, which is the server's from now on."""

        def protocol() -> asyncio.Protocol:
            connection = Connection(self)
            return connection if tls is None else TlsProtocol(tls, connection)

        server = await asyncio.get_running_loop().create_server(protocol, sock=sock, backlog=self._backlog)
        self._listening.append(server)

    def stop_listening(self) -> None:
        """Nobody can connect any more; idle connections are closed, the others after their answer."""
        self.closing = True
        for server in self._listening:
            server.close()
        for connection in list(self._connections):
            connection.stop()

    async def close(self, timeout_s: float) -> None:
        """Wait for the answers under way, then cancel their handlers."""
        tasks = {connection.task for connection in self._connections if connection.task is not None}
        if tasks:
            _done, late = await asyncio.wait(tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for connection in list(self._connections):
            if connection.transport is not None:
                connection.transport.close()

    def opened(self, connection: Connection) -> None:
        """A connection's own call."""
        self._connections.add(connection)

    def closed(self, connection: Connection) -> None:
        """A connection's own call."""
        self._connections.discard(connection)
