"""A gRPC connection to rorqual-containerd's socket, whatever the length of its path.

Used by rorquald. Calls are made through the generated stubs (rorqual.rpc.proto.*_grpc), inside status.translated().
"""

from __future__ import annotations

from grpclib.client import Channel
from grpclib.protocol import H2Protocol

from rorqual.rpc import unixsock

NAMESPACE = "containerd-namespace"
LEASE = "containerd-lease"


class UnixChannel(Channel):
    """A channel that connects by rorqual.rpc.unixsock; reconnects by itself on the next call after a loss."""

    def __init__(self, address: str) -> None:
        super().__init__(path=address)
        self._address = address

    async def _create_connection(self) -> H2Protocol:
        sock = unixsock.connect(self._address)  # a unix socket connects at once or fails at once
        sock.setblocking(False)
        _, protocol = await self._loop.create_connection(self._protocol_factory, sock=sock)
        return protocol


def scope(namespace: str, lease: str = "") -> dict[str, str]:
    """The metadata of a call in `namespace`, its new objects held by `lease`."""
    return {NAMESPACE: namespace, LEASE: lease} if lease else {NAMESPACE: namespace}
