"""ttrpc framing and the asyncio client against a server over a socketpair."""

import asyncio
import socket

import pytest

from rorqual import errdefs
from rorqual.rpc import taskapi, ttrpc, ttrpcclient


def test_frames_come_out_whole_whatever_the_pieces() -> None:
    data = b"".join(ttrpc.pack(n, ttrpc.REQUEST, taskapi.StartRequest("id" * n)) for n in (1, 3, 5))
    parser, frames = ttrpc.Parser(), []
    for byte in data:
        frames += parser.feed(bytes([byte]))
    assert [f.stream_id for f in frames] == [1, 3, 5]
    assert taskapi.StartRequest.decode(frames[2].payload).id == "id" * 5


def test_a_frame_beyond_the_limit_is_refused() -> None:
    with pytest.raises(errdefs.InvalidArgument, match="exceeds"):
        ttrpc.Parser().feed((ttrpc.MESSAGE_LENGTH_MAX + 1).to_bytes(4, "big") + bytes(6))


async def _serve(sock: socket.socket, answers: dict[str, ttrpc.Response | None]) -> None:
    """Answer by method; None: never."""
    reader, writer = await asyncio.open_connection(sock=sock)
    parser = ttrpc.Parser()
    while data := await reader.read(65536):
        for frame in parser.feed(data):
            request = ttrpc.Request.decode(frame.payload)
            if (answer := answers[request.method]) is not None:
                writer.write(ttrpc.pack(frame.stream_id, ttrpc.RESPONSE, answer))
    writer.close()


async def test_calls_are_answered_out_of_order_and_errors_keep_their_class() -> None:
    ours, theirs = socket.socketpair()
    answers: dict[str, ttrpc.Response | None] = {
        "Wait": None,
        "Start": ttrpc.Response(payload=taskapi.StartResponse(7).encode()),
        "State": ttrpc.Response(status=ttrpc.Status(5, "no such process")),
    }
    server = asyncio.ensure_future(_serve(theirs, answers))
    client = ttrpcclient.Client(ours)
    waiting = asyncio.ensure_future(client.call("Wait", taskapi.WaitRequest("x"), taskapi.WaitResponse))
    assert (await client.call("Start", taskapi.StartRequest("x"), taskapi.StartResponse)).pid == 7
    with pytest.raises(errdefs.NotFound, match="no such process"):
        await client.call("State", taskapi.StateRequest("x"), taskapi.StateResponse)
    with pytest.raises(errdefs.DeadlineExceeded):
        await client.call("Wait", taskapi.WaitRequest("x"), taskapi.WaitResponse, timeout_s=0.01)
    client.close()
    with pytest.raises(errdefs.Unavailable):
        await waiting
    await server


async def test_a_lost_connection_fails_the_calls_under_way() -> None:
    ours, theirs = socket.socketpair()
    client = ttrpcclient.Client(ours)
    call = asyncio.ensure_future(client.call("Wait", taskapi.WaitRequest("x"), taskapi.WaitResponse))
    await asyncio.sleep(0)
    theirs.close()
    with pytest.raises(errdefs.Unavailable):
        await call
    await client.closed
