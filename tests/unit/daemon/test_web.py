"""The HTTP server: what it reads, how it answers, and what it refuses to understand in two ways."""

import asyncio
import itertools
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rorqual.daemon.web import Request, Response, Server, StreamResponse
from rorqual.daemon.web.body import ByChunks, ByLength
from rorqual.daemon.web.connection import Handler
from rorqual.daemon.web.head import HEAD_MAX, Malformed, parse
from rorqual.daemon.web.response import encode_head

GET = b"GET /_ping?a=1 HTTP/1.1\r\nHost: d\r\n"


# ---- heads


def test_head_is_read() -> None:
    head = parse(b"POST /v1.41/x%2Fy?name=a HTTP/1.1\r\nHost:d\r\nContent-Length: 5 \r\nX-A: 1\r\nx-a: 2\r\nX-Empty:")
    assert (head.method, head.target, head.version, head.length) == ("POST", "/v1.41/x%2Fy?name=a", (1, 1), 5)
    assert head.headers["X-A"] == "1, 2"
    assert head.headers["x-empty"] == ""
    assert "Missing" not in head.headers
    assert head.keep_alive


@pytest.mark.parametrize(
    ("raw", "keep_alive"),
    [
        (b"GET / HTTP/1.1\r\nHost: d\r\nConnection: Close", False),
        (b"GET / HTTP/1.1\r\nHost: d\r\nConnection: Upgrade, close", False),
        (b"GET / HTTP/1.0", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive", True),
    ],
)
def test_connection_options(raw: bytes, keep_alive: bool) -> None:
    assert parse(raw).keep_alive is keep_alive


@pytest.mark.parametrize("filling", [b" ", b"\t", b"x ", b"x" * 63 + b" "])
def test_a_field_that_is_refused_is_refused_at_once(filling: bytes) -> None:
    """Of a head's greatest size; a pattern that tries every way to split it needs minutes, all clients waiting."""
    field = b"X:" + filling * ((HEAD_MAX - 100) // len(filling)) + b"\x01"
    began = time.monotonic()
    with pytest.raises(Malformed):
        parse(GET + field)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"GET",
        b"GET /\r\nHost: d",
        b"GET / HTTP/2.0\r\nHost: d",
        b"GET  / HTTP/1.1\r\nHost: d",
        b"GET / HTTP/1.1",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b",
        b"GET / HTTP/1.1\r\nHost : d",
        b"GET / HTTP/1.1\r\nHost: d\r\n folded",
        b"GET / HTTP/1.1\r\nHost: d\r\nX: a\nY: b",
        b"GET / HTTP/1.1\r\nHost: d\r\nX: \x00",
        b"GET / HTTP/1.1\r\nHost: d\r\nno colon",
        b"GET / HTTP/1.1\r\nHost: d\r\n: no name",
        b"GET / HTTP/1.1\r\nHost: d\r\nContent-Length: 1\r\nContent-Length: 2",
        b"GET / HTTP/1.1\r\nHost: d\r\nContent-Length: +1",
        b"GET / HTTP/1.1\r\nHost: d\r\nContent-Length: 1, 1",
        b"GET / HTTP/1.1\r\nHost: d\r\nContent-Length: " + b"9" * 30,
        "GET / HTTP/1.1\r\nHost: d\r\nContent-Length: ²".encode("latin-1"),
        b"GET / HTTP/1.1\r\nHost: d\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        b"GET / HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: gzip, chunked",
        b"GET / HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked",
    ],
)
def test_what_two_readers_could_understand_differently_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        parse(raw)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_malformed(raw: bytes) -> None:
    try:
        parse(raw)
    except Malformed as e:
        assert e.status in (400, 501)


def test_an_answer_cannot_hold_a_line_end() -> None:
    with pytest.raises(ValueError, match="line end"):
        encode_head(200, {"X": "a\r\nSet-Cookie: b"})


# ---- bodies


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.binary(max_size=20), st.lists(st.integers(0, 999)))
def test_chunks_are_joined_wherever_the_bytes_are_cut(chunks: list[bytes], rest: bytes, cuts: list[int]) -> None:
    raw = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\nTrailer: x\r\n\r\n"
    decoder, buffer, got = ByChunks(), bytearray(), b""
    for piece in in_pieces(raw + rest, cuts):
        buffer += piece
        if not decoder.done:
            got += b"".join(decoder.feed(buffer))
    assert decoder.done
    assert got == b"".join(chunks)
    assert buffer == rest


@pytest.mark.parametrize(
    "raw", [b"x\r\n", b"-1\r\n", b"\r\n", b"1" * 16 + b"\r\n", b"1\r\nab\r\n", b"1\r\na\nb", b"0" * 5000, b" 1\r\n"]
)
def test_bad_chunks_are_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        ByChunks().feed(bytearray(raw))


def test_trailers_are_bounded() -> None:
    decoder = ByChunks()
    with pytest.raises(Malformed):
        decoder.feed(bytearray(b"0\r\n" + b"X: y\r\n" * 5000))


def test_a_length_takes_no_more_than_its_bytes() -> None:
    decoder, buffer = ByLength(3), bytearray(b"abcdef")
    assert decoder.feed(buffer) == [b"abc"]
    assert decoder.done
    assert buffer == b"def"


# ---- connections


class Client:
    """A raw client: sends bytes, reads what comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[bytes, bytes]:
        """(head, body) of one answer, by its length or its chunks."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: (\d+)", head)
        if length:
            return head, await self.reader.readexactly(int(length[1]))
        body = b""
        if b"Transfer-Encoding: chunked" in head:
            while size := int(await self.reader.readline(), 16):
                body += await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            await self.reader.readexactly(2)
        return head, body

    async def rest(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), 10)

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[tuple[Server, Callable[[], Awaitable[Client]]]]:
    """A server on a socket of its own, and what connects to it."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    server = Server(handler)
    await server.listen(listener)
    clients: list[Client] = []

    async def connect() -> Client:
        clients.append(Client(*await asyncio.open_connection(*address)))
        return clients[-1]

    try:
        yield server, connect
    finally:
        for client in clients:
            await client.close()
        server.stop_listening()
        await server.close(1)


async def echo(request: Request) -> StreamResponse:
    body = b"".join([piece async for piece in request.content.iter_any()])
    text = f"{request.method} {request.raw_path} {dict(request.query)} ".encode()
    return Response(200, text + body, {"X-Here": "yes"}, content_type="text/plain")


async def test_requests_follow_each_other_on_one_connection_even_when_sent_at_once() -> None:
    async with serving(echo) as (_server, connect):
        client = await connect()
        client.send(GET + b"\r\n" + GET + b"Content-Length: 2\r\n\r\nhi" + GET + b"Connection: close\r\n\r\n")
        for body in (b"GET /_ping {'a': '1'} ", b"GET /_ping {'a': '1'} hi", b"GET /_ping {'a': '1'} "):
            head, got = await client.answer()
            assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"\r\nX-Here: yes" in head and b"\r\nDate: " in head
            assert got == body
        assert await client.rest() == b""


async def test_a_body_comes_byte_by_byte() -> None:
    async with serving(echo) as (_server, connect):
        client = await connect()
        for byte in GET + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n":
            client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.answer())[1] == b"GET /_ping {'a': '1'} abc"


async def test_head_and_no_content_have_no_body() -> None:
    async def handler(request: Request) -> StreamResponse:
        return Response(204) if request.method == "GET" else Response(200, b"body")

    async with serving(handler) as (_server, connect):
        client = await connect()
        client.send(b"HEAD / HTTP/1.1\r\nHost: d\r\n\r\n" + GET + b"\r\n")
        assert b"Content-Length: 4" in await client.reader.readuntil(b"\r\n\r\n")
        second = await client.reader.readuntil(b"\r\n\r\n")
        assert second.startswith(b"HTTP/1.1 204 No Content\r\n") and b"Content-Length" not in second


async def test_a_stream_is_chunked_and_for_http_1_0_ends_with_the_connection() -> None:
    async def handler(request: Request) -> StreamResponse:
        response = StreamResponse()
        await response.prepare(request)
        await response.write(b"one")
        await response.write(b"two")
        await response.write_eof()
        return response

    async with serving(handler) as (_server, connect):
        client = await connect()
        client.send(GET + b"\r\n")
        assert (await client.answer())[1] == b"onetwo"
        old = await connect()
        old.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await old.rest()).endswith(b"\r\n\r\nonetwo")


async def test_an_error_after_a_stream_has_begun_ends_the_connection_and_adds_nothing_to_it() -> None:
    async def handler(request: Request) -> StreamResponse:
        begun = StreamResponse()
        await begun.prepare(request)
        await begun.write(b"one")
        return Response(500, b"too late")

    async with serving(handler) as (_server, connect):
        client = await connect()
        client.send(GET + b"\r\n")
        assert (await client.rest()).endswith(b"\r\n\r\n3\r\none\r\n")  # no last chunk: the client sees it is cut


async def test_continue_is_said_when_the_body_is_wanted() -> None:
    async def handler(request: Request) -> StreamResponse:
        return await echo(request) if request.query["a"] == "1" else Response(403, b"no")

    async with serving(handler) as (_server, connect):
        client = await connect()
        client.send(GET + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"ok")
        assert (await client.answer())[1].endswith(b" ok")
        client.send(b"GET /?a=2 HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert (await client.rest()).startswith(b"HTTP/1.1 403 Forbidden")


async def test_a_client_that_goes_away_cancels_its_handler() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(_request: Request) -> StreamResponse:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return Response()

    async with serving(handler) as (_server, connect):
        client = await connect()
        client.send(GET + b"\r\n")
        await asyncio.wait_for(started.wait(), 10)
        await client.close()
        await asyncio.wait_for(cancelled.wait(), 10)


async def test_a_body_that_breaks_off_is_an_error_for_its_reader() -> None:
    failure: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    async def handler(request: Request) -> StreamResponse:
        try:
            return await echo(request)
        except (ConnectionError, Malformed) as e:
            failure.set_result(e)
            return Response(400)

    async with serving(handler) as (_server, connect):
        client = await connect()
        client.send(GET + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n")
        assert isinstance(await asyncio.wait_for(failure, 10), Malformed)
        assert (await client.rest()).startswith(b"HTTP/1.1 400 Bad Request")


async def test_a_slow_reader_stops_the_sender_and_nothing_is_lost() -> None:
    go_on = asyncio.Event()
    size = 20 << 20

    async def handler(request: Request) -> StreamResponse:
        await go_on.wait()
        total = 0
        async for piece in request.content.iter_any():
            total += len(piece)
        return Response(200, str(total).encode())

    async with serving(handler) as (server, connect):
        client = await connect()
        client.send(GET + b"Content-Length: %d\r\n\r\n" % size)
        client.send(bytes(size))
        connection = next(iter(server._connections))
        for _ in range(1000):
            if connection._resting:
                break
            await asyncio.sleep(0.01)
        assert connection._resting, "the socket is read without end although nobody takes the bytes"
        go_on.set()
        assert (await client.answer())[1] == str(size).encode()


async def test_an_unread_body_is_passed_over() -> None:
    async def handler(request: Request) -> StreamResponse:
        return Response(404, b"none") if request.head.length else await echo(request)

    async with serving(handler) as (_server, connect):
        client = await connect()
        client.send(GET + b"Content-Length: 1000000\r\n\r\n" + bytes(1_000_000) + GET + b"\r\n")
        assert (await client.answer())[1] == b"none"
        assert (await client.answer())[1] == b"GET /_ping {'a': '1'} "


@pytest.mark.parametrize(
    ("raw", "status"),
    [(b"\x16\x03\x01\x02\x00\r\n\r\n", 400), (GET + b"X: " + b"y" * HEAD_MAX + b"\r\n\r\n", 431)],
    ids=["tls", "too long"],
)
async def test_no_http_is_refused_and_the_connection_closed(raw: bytes, status: int) -> None:
    async with serving(echo) as (_server, connect):
        client = await connect()
        client.send(raw)
        assert (await client.rest()).startswith(b"HTTP/1.1 %d " % status)


async def test_a_connection_is_handed_over_with_the_bytes_that_came_early() -> None:
    async def handler(request: Request) -> StreamResponse:
        early = request.connection.hand_over()
        assert request.connection.transport is not None
        request.connection.transport.write(b"HTTP/1.1 101 UPGRADED\r\n\r\n" + early)
        return Response()

    async with serving(handler) as (server, connect):
        client = await connect()
        client.send(GET + b"\r\nearly")
        assert await client.reader.readexactly(30) == b"HTTP/1.1 101 UPGRADED\r\n\r\nearly"
        server.stop_listening()  # which closes idle connections, and leaves that one alone
        client.send(b"more")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.05)


async def test_stopping_lets_answers_end_and_closes_what_is_idle() -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def handler(_request: Request) -> StreamResponse:
        started.set()
        await go_on.wait()
        return Response(200, b"late")

    async with serving(handler) as (server, connect):
        busy, idle = await connect(), await connect()
        busy.send(GET + b"\r\n")
        await asyncio.wait_for(started.wait(), 10)
        server.stop_listening()
        assert await idle.rest() == b""
        go_on.set()
        await server.close(10)
        assert (await busy.rest()).endswith(b"\r\n\r\nlate")
