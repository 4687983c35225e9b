"""A gRPC connection to rorqual-containerd's socket, whatever the length of its path.

Containerd may be away for the moment that its supervisor needs to start it again: a call that finds nobody listening
waits for that. A call that was under way is lost: status.ConnectionLost tells it from a refusal.

Used by rorquald. Calls are made through the generated stubs (rorqual.rpc.proto.*_grpc), inside status.translated().
"""

from __future__ import annotations

import asyncio
import errno
import os

from grpclib.client import Channel, Handler
from grpclib.protocol import H2Protocol

from rorqual.rpc import unixsock
from rorqual.rpc.http2 import bound_ended_streams

NAMESPACE = "containerd-namespace"
LEASE = "containerd-lease"
_POLL_S = 0.02


class _Protocol(H2Protocol):
    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.connection.write_ready.set()  # grpclib leaves the calls that wait for room waiting


class UnixChannel(Channel):
    """A channel that connects by rorqual.rpc.unixsock; reconnects by itself on the next call after a loss.

    `patience_s` is how long a call waits for a server that does not listen.
    """

    def __init__(self, address: str, *, patience_s: float = 0.0) -> None:
        super().__init__(path=address)
        bound_ended_streams()
        self._address = address
        self._patience_s = patience_s

    def _protocol_factory(self) -> H2Protocol:
        return _Protocol(Handler(), self._config, self._h2_config)

    async def _create_connection(self) -> H2Protocol:
        deadline = self._loop.time() + self._patience_s
        while True:
            try:
                return await self._connect()
            except (FileNotFoundError, ConnectionError):
                if self._loop.time() >= deadline:
                    raise
            await asyncio.sleep(_POLL_S)

    async def _connect(self) -> H2Protocol:
        sock = unixsock.connect(self._address)  # a unix socket connects at once or fails at once
        sock.setblocking(False)
        _, protocol = await self._loop.create_connection(self._protocol_factory, sock=sock)
        if protocol.connection.is_closing():  # the server died with this connection in its backlog
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return protocol


def scope(namespace: str, lease: str = "") -> dict[str, str]:
    """The metadata of a call in `namespace`, its new objects held by `lease`."""
    return {NAMESPACE: namespace, LEASE: lease} if lease else {NAMESPACE: namespace}
