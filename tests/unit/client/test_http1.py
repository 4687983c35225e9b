"""HTTP/1.1 responses, however the wire cuts them."""

import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rorqual.client.errors import ConnectionFailed, ProtocolError
from rorqual.client.http1 import Connection, parse_head


class Wire:
    """A socket that gives prepared bytes in prepared cuts."""

    def __init__(self, data: bytes, cut: int) -> None:
        self.data = data
        self.cut = cut
        self.sent = b""
        self.closed = False

    def recv(self, size: int) -> bytes:
        piece, self.data = self.data[: min(size, self.cut)], self.data[min(size, self.cut) :]
        return piece

    def sendall(self, data: bytes) -> None:
        self.sent += bytes(data)

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.closed = True

    def shutdown(self, how: int) -> None: ...

    def settimeout(self, timeout: float | None) -> None: ...


def connection(data: bytes, cut: int = 1 << 20) -> Connection:
    return Connection(Wire(data, cut))


def chunked(body: bytes, size: int) -> bytes:
    out = b""
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        out += b"%x;ext=1\r\n%b\r\n" % (len(piece), piece)
    return out + b"0\r\nTrailer: x\r\n\r\n"


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 50), st.integers(1, 60))
def test_chunked_bodies_survive_any_cut(body: bytes, chunk: int, cut: int) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    conn = connection(head + chunked(body, chunk) + b"HTTP/1.1 204 No Content\r\n\r\n", cut)
    assert conn.read_response("GET").read() == body
    assert conn.reusable
    assert conn.read_response("GET").status == 204


def test_content_length_ends_the_body_and_the_connection_serves_again() -> None:
    conn = connection(
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    )
    assert conn.read_response("GET").read() == b"abc"
    assert conn.read_response("GET").status == 404


def test_a_body_without_length_ends_with_the_connection() -> None:
    conn = connection(b"HTTP/1.1 200 OK\r\n\r\nto the end")
    assert conn.read_response("GET").read() == b"to the end"
    assert not conn.reusable


def test_head_responses_and_304_have_no_body() -> None:
    assert connection(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n").read_response("HEAD").read() == b""
    assert connection(b"HTTP/1.1 304 Not Modified\r\n\r\n").read_response("POST").read() == b""


def test_interim_responses_are_skipped_and_101_is_not() -> None:
    conn = connection(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\nearly")
    assert conn.read_response("POST").status == 101
    _, early = conn.hijack()
    assert early == b"early"


def test_a_cut_body_is_an_error_of_the_connection() -> None:
    conn = connection(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    with pytest.raises(ConnectionFailed):
        conn.read_response("GET").read()
    assert not conn.reusable


@pytest.mark.parametrize(
    "head", [b"", b"SPAM", b"HTTP/1.1 20 OK", b"HTTP/1.1 abc OK", b"HTTP/1.1 200 OK\r\nno colon", b"HTTP/2 200 OK"]
)
def test_malformed_heads_are_the_peers_fault(head: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_head(head)


@pytest.mark.parametrize("size", [b"", b"-1", b"xyz", b"0x10", b"1" * 17])
def test_malformed_chunk_sizes_are_refused(size: bytes) -> None:
    conn = connection(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\nabc")
    with pytest.raises(ProtocolError):
        conn.read_response("GET").read()


def test_an_endless_head_is_refused() -> None:
    with pytest.raises(ProtocolError):
        connection(b"HTTP/1.1 200 OK\r\nX: " + b"a" * (1 << 20)).read_response("GET")


def test_bodies_are_sent_with_length_or_chunked() -> None:
    wire = Wire(b"", 1)
    conn = Connection(wire)
    conn.send_request("POST", "/x", {"Host": "h"}, b"abc")
    assert wire.sent.endswith(b"Content-Length: 3\r\n\r\nabc")
    wire.sent = b""
    conn.send_request("PUT", "/x", {"Host": "h"}, iter([b"ab", b"", b"c"]))
    assert wire.sent.endswith(b"\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")


def test_a_closed_connection_says_so() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    conn = Connection(ours)
    with pytest.raises(ConnectionFailed):
        conn.send_request("GET", "/", {})
        conn.read_response("GET")
    conn.close()
