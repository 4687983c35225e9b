"""The asyncio ttrpc server against the asyncio client."""

import socket
from pathlib import Path

import pytest

from rorqual import errdefs
from rorqual.rpc import taskapi, ttrpcclient, ttrpcserver, unixsock


async def _echo(payload: bytes) -> bytes:
    return payload


async def _refuse(_payload: bytes) -> bytes:
    raise errdefs.InvalidArgument("no")


@pytest.fixture
async def client(tmp_path: Path):  # type: ignore[no-untyped-def]
    server = ttrpcserver.Server({"s/Echo": _echo, "s/Refuse": _refuse})
    await server.start(unixsock.listen(tmp_path / "t.sock"))
    made = ttrpcclient.Client(unixsock.connect(tmp_path / "t.sock", socket.SOCK_STREAM))
    yield made
    made.close()
    server.close()


async def test_a_call_is_answered(client: ttrpcclient.Client) -> None:
    answer = await client.call("Echo", taskapi.StartResponse(7), taskapi.StartResponse, service="s")
    assert answer.pid == 7


async def test_an_error_keeps_its_class(client: ttrpcclient.Client) -> None:
    with pytest.raises(errdefs.InvalidArgument, match="no"):
        await client.call("Refuse", taskapi.Empty(), taskapi.Empty, service="s")


async def test_an_unknown_method_is_unimplemented(client: ttrpcclient.Client) -> None:
    with pytest.raises(errdefs.NotImplementedHere):
        await client.call("Other", taskapi.Empty(), taskapi.Empty, service="s")
