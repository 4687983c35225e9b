"""A gRPC connection stays as it was, however many calls were given up on it."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Cardinality, Handler
from grpclib.protocol import EventsProcessor
from h2.connection import H2Connection

from rorqual.rpc.channel import UnixChannel
from rorqual.rpc.grpcserver import LeanServer
from rorqual.rpc.proto.namespaces_grpc import NamespacesStub
from rorqual.rpc.proto.namespaces_pb2 import ListNamespacesRequest, ListNamespacesResponse

_PATH = "/containerd.services.namespaces.v1.Namespaces/List"


class Slow:
    """Answers when told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def list(self, stream: Any) -> None:
        await stream.recv_message()
        await self.go_on.wait()
        await stream.send_message(ListNamespacesResponse())

    def __mapping__(self) -> dict[str, Handler]:
        return {_PATH: Handler(self.list, Cardinality.UNARY_UNARY, ListNamespacesRequest, ListNamespacesResponse)}


@asynccontextmanager
async def connected(tmp_path: Path) -> AsyncIterator[tuple[Slow, NamespacesStub]]:
    service = Slow()
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "grpc.sock"))
    server = LeanServer([service])
    await server.start(sock=sock)
    channel = UnixChannel(str(tmp_path / "grpc.sock"))
    try:
        yield service, NamespacesStub(channel)
    finally:
        channel.close()
        server.close()
        await server.wait_closed()


def registered() -> int:
    """Calls that either end of any connection still has."""
    return sum(len(o.streams) for o in gc.get_objects() if type(o) is EventsProcessor)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5])
async def test_a_call_given_up_at_any_moment_leaves_nothing(tmp_path: Path, turns: int) -> None:
    async with connected(tmp_path) as (service, stub):
        for _ in range(20):
            calls = [asyncio.ensure_future(stub.List(ListNamespacesRequest(filter="x" * 1000))) for _ in range(10)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        service.go_on.set()
        assert await stub.List(ListNamespacesRequest()) == ListNamespacesResponse()
        assert registered() == 0


async def test_more_bytes_than_the_window_can_be_given_up(tmp_path: Path) -> None:
    """The connection's window is 4 MiB: calls whose bytes were never given back would stop it."""
    async with connected(tmp_path) as (service, stub):
        for _ in range(300):
            call = asyncio.ensure_future(stub.List(ListNamespacesRequest(filter="x" * 30_000)))
            for _ in range(3):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        service.go_on.set()
        answer = await asyncio.wait_for(stub.List(ListNamespacesRequest(filter="x" * 30_000)), 20)
        assert isinstance(answer, ListNamespacesResponse)


async def test_ended_streams_are_forgotten(tmp_path: Path) -> None:
    async with connected(tmp_path) as (service, stub):
        service.go_on.set()
        for _ in range(1100):
            await stub.List(ListNamespacesRequest())
        connections = [o for o in gc.get_objects() if type(o) is H2Connection]
        kept = [len(connection._closed_streams) for connection in connections if connection._closed_streams]
        assert max(kept) == 1024, "more: the bound has another name now; less: nothing was kept in mind"
