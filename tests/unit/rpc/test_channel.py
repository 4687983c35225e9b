"""A server that dies under its clients: what they see of it is a loss, whatever grpclib makes of it."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Cardinality, Handler
from grpclib.protocol import H2Protocol

from rorqual.rpc import unixsock
from rorqual.rpc.channel import UnixChannel
from rorqual.rpc.grpcserver import LeanServer
from rorqual.rpc.proto.namespaces_grpc import NamespacesStub
from rorqual.rpc.proto.namespaces_pb2 import ListNamespacesRequest, ListNamespacesResponse
from rorqual.rpc.status import ConnectionLost, translated

_PATH = "/containerd.services.namespaces.v1.Namespaces/List"


class Answering:
    async def list(self, stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(ListNamespacesResponse())

    def __mapping__(self) -> dict[str, Handler]:
        return {_PATH: Handler(self.list, Cardinality.UNARY_UNARY, ListNamespacesRequest, ListNamespacesResponse)}


async def serving(path: Path) -> LeanServer:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    server = LeanServer([Answering()])
    await server.start(sock=sock)
    return server


def dying_at_once(monkeypatch: pytest.MonkeyPatch, times: int) -> list[socket.socket]:
    """The first `times` connections are lost before their first call: their server died before it accepted them."""
    lost: list[socket.socket] = []
    made, connect = H2Protocol.connection_made, unixsock.connect

    def connection(address: str) -> socket.socket:
        if len(lost) == times:
            return connect(address)
        mine, theirs = socket.socketpair()
        theirs.close()
        lost.append(mine)
        return mine

    def made_and_lost(protocol: H2Protocol, transport: Any) -> None:
        made(protocol, transport)
        if transport.get_extra_info("socket").fileno() in [sock.fileno() for sock in lost]:
            protocol.connection_lost(None)

    monkeypatch.setattr(unixsock, "connect", connection)
    monkeypatch.setattr(H2Protocol, "connection_made", made_and_lost)
    return lost


async def test_a_connection_lost_before_its_first_call_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serving(tmp_path / "grpc.sock")
    lost = dying_at_once(monkeypatch, 3)
    channel = UnixChannel(str(tmp_path / "grpc.sock"), patience_s=10)
    try:
        with translated():
            await NamespacesStub(channel).List(ListNamespacesRequest())
        assert len(lost) == 3
    finally:
        channel.close()
        server.close()
        await server.wait_closed()


async def test_a_server_that_only_dies_is_a_lost_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dying_at_once(monkeypatch, 1000)
    channel = UnixChannel(str(tmp_path / "grpc.sock"), patience_s=0.1)
    try:
        with pytest.raises(ConnectionLost, match="Connection reset by peer"), translated():
            await NamespacesStub(channel).List(ListNamespacesRequest())
    finally:
        channel.close()


async def test_a_call_that_waits_for_room_hears_of_the_loss(tmp_path: Path) -> None:
    server = await serving(tmp_path / "grpc.sock")
    channel = UnixChannel(str(tmp_path / "grpc.sock"))
    try:
        protocol = await channel.__connect__()
        protocol.pause_writing()  # as asyncio does when the server does not read

        async def call() -> None:
            with translated():
                await NamespacesStub(channel).List(ListNamespacesRequest())

        calls = [asyncio.ensure_future(call()) for _ in range(3)]
        await asyncio.sleep(0)
        protocol.connection._transport.abort()
        async with asyncio.timeout(10):
            results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [ConnectionLost] * 3
    finally:
        channel.close()
        server.close()
        await server.wait_closed()


def test_other_mistakes_are_no_losses() -> None:
    with pytest.raises(AttributeError), translated():
        asyncio._transport  # type: ignore[attr-defined]  # noqa: B018
