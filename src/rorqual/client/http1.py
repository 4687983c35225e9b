"""HTTP/1.1 as an Engine API client needs it: request heads, response heads, bodies, upgrades.

`Connection` owns its socket; everything else is parsing. Not here: addresses (transport), API paths (engine).
A connection carries one exchange at a time. After a response whose body was read to its end it can carry another;
otherwise it must be closed. `hijack` gives the socket away.
"""

from __future__ import annotations

from rorqual.client.errors import ConnectionFailed, ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Protocol

    class Socket(Protocol):
        """What is used of a socket: plain, TLS or the one of the C module alike."""

        def recv(self, size: int, /) -> bytes: ...
        def send(self, data: bytes | memoryview, flags: int = 0, /) -> int: ...
        def sendall(self, data: bytes | memoryview, /) -> None: ...
        def fileno(self) -> int: ...
        def close(self) -> None: ...
        def shutdown(self, how: int, /) -> None: ...
        def settimeout(self, timeout: float | None, /) -> None: ...


RECV_BYTES = 256 * 1024
MAX_HEAD_BYTES = 256 * 1024


class Response:
    """A response's head, and its body still on the wire.

    Read the body with exactly one of `read`, `chunks` or (for newline-separated JSON) the engine's streams.
    """

    __slots__ = ("_connection", "_length", "chunked", "headers", "reason", "status")

    def __init__(
        self, connection: Connection, status: int, reason: str, headers: dict[str, str], *, bodyless: bool
    ) -> None:
        self._connection = connection
        self.status = status
        self.reason = reason
        self.headers = headers
        self.chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length")
        if bodyless or status in (204, 304) or 100 <= status < 200:
            self._length: int | None = 0
            self.chunked = False
        elif length is not None and not self.chunked:
            if not length.isdecimal():
                raise ProtocolError(f"bad Content-Length in response: {length!r}")
            self._length = int(length)
        else:
            self._length = None

    def chunks(self) -> Iterator[bytes]:
        """The body as it arrives, in pieces of any size.

        Raises: ConnectionFailed when the connection ends before the body does.
        """
        connection = self._connection
        if self.chunked:
            while True:
                size = _chunk_size(connection.read_line())
                if size == 0:
                    while connection.read_line():
                        pass
                    break
                yield from connection.read_pieces(size)
                if connection.read_line():
                    raise ProtocolError("chunk is longer than its announced size")
        elif self._length is not None:
            yield from connection.read_pieces(self._length)
        else:
            connection.reusable = False
            yield from connection.read_until_close()
            return
        connection.body_done(self.headers)

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks())

    def close(self) -> None:
        """Give up on the body: the connection is closed with it."""
        self._connection.close()


class Connection:
    """A socket with a read buffer. Owns the socket until `hijack` gives it away."""

    __slots__ = ("_buffer", "_sock", "reusable")

    def __init__(self, sock: Socket) -> None:
        self._sock: Socket | None = sock
        self._buffer = bytearray()
        self.reusable = True

    @property
    def sock(self) -> Socket:
        if self._sock is None:
            raise ConnectionFailed("connection is closed")
        return self._sock

    def fileno(self) -> int:
        return self.sock.fileno()

    def buffered(self) -> bool:
        """Whether bytes that arrived wait in the buffer (a poll of the socket does not see those)."""
        return bool(self._buffer)

    def stale(self) -> bool:
        """Whether an idle connection was ended by the peer (an engine that was restarted, or closes idle ones)."""
        import select

        poll = select.poll()
        poll.register(self.sock.fileno(), select.POLLIN)
        return self.buffered() or bool(poll.poll(0))

    def close(self) -> None:
        self.reusable = False
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def send_request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None = None,
    ) -> None:
        """Send one request. A bytes body goes with Content-Length, an iterable goes chunked.

        Raises: ConnectionFailed when the peer is gone; an answer it sent before may still be readable.
        """
        lines = [f"{method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is None:
            if method in ("POST", "PUT"):
                lines.append("Content-Length: 0")
        elif isinstance(body, bytes):
            lines.append(f"Content-Length: {len(body)}")
        else:
            lines.append("Transfer-Encoding: chunked")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        sock = self.sock
        try:
            if body is None:
                sock.sendall(head)
            elif isinstance(body, bytes):
                sock.sendall(head + body)
            else:
                sock.sendall(head)
                for piece in body:
                    if piece:
                        sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
                sock.sendall(b"0\r\n\r\n")
        except OSError as e:
            self.reusable = False
            raise ConnectionFailed(f"error during connect: {e.strerror or e}") from e

    def read_response(self, method: str) -> Response:
        """The next response's head; interim (1xx) ones but 101 are skipped.

        Raises: ConnectionFailed, ProtocolError.
        """
        while True:
            status, reason, headers = parse_head(self._read_head())
            if status >= 200 or status == 101:
                return Response(self, status, reason, headers, bodyless=method == "HEAD")

    def hijack(self) -> tuple[Socket, bytes]:
        """Give the socket to the caller, with the bytes that came after the response's head."""
        sock, rest = self.sock, bytes(self._buffer)
        self._sock = None
        self._buffer.clear()
        self.reusable = False
        return sock, rest

    def body_done(self, headers: Mapping[str, str]) -> None:
        if headers.get("connection", "").lower() == "close":
            self.reusable = False

    def read_line(self) -> bytes:
        """One line without its end."""
        buffer = self._buffer
        start = 0
        while (end := buffer.find(b"\n", start)) < 0:
            if len(buffer) > MAX_HEAD_BYTES:
                raise ProtocolError("line is too long")
            start = len(buffer)
            self._fill()
        line = bytes(buffer[:end])
        del buffer[: end + 1]
        return line.rstrip(b"\r")

    def read_pieces(self, size: int) -> Iterator[bytes]:
        """`size` bytes, in pieces as they come."""
        buffer = self._buffer
        if buffer and size:
            piece = bytes(buffer[:size])
            del buffer[:size]
            size -= len(piece)
            yield piece
        while size > 0:
            piece = self._recv(min(size, RECV_BYTES))
            if not piece:
                self.reusable = False
                raise ConnectionFailed("unexpected EOF")
            size -= len(piece)
            yield piece

    def read_until_close(self) -> Iterator[bytes]:
        if self._buffer:
            piece = bytes(self._buffer)
            self._buffer.clear()
            yield piece
        while piece := self._recv(RECV_BYTES):
            yield piece

    def _read_head(self) -> bytes:
        buffer = self._buffer
        start = 0
        while (end := buffer.find(b"\r\n\r\n", start)) < 0:
            if len(buffer) > MAX_HEAD_BYTES:
                raise ProtocolError("response head is too long")
            start = max(0, len(buffer) - 3)
            self._fill()
        head = bytes(buffer[:end])
        del buffer[: end + 4]
        return head

    def _fill(self) -> None:
        piece = self._recv(RECV_BYTES)
        if not piece:
            self.reusable = False
            raise ConnectionFailed("error during connect: EOF")
        self._buffer += piece

    def _recv(self, size: int) -> bytes:
        try:
            return self.sock.recv(size)
        except OSError as e:
            self.reusable = False
            raise ConnectionFailed(f"error during connect: {e.strerror or e}") from e


def parse_head(head: bytes) -> tuple[int, str, dict[str, str]]:
    """(status, reason, headers by lower-case name) of a response's head without its final empty line.

    Raises: ProtocolError.
    """
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    code, _, reason = rest.partition(" ")
    if not version.startswith("HTTP/1.") or len(code) != 3 or not code.isdecimal():
        raise ProtocolError(f"malformed HTTP response {lines[0][:80]!r}")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise ProtocolError(f"malformed HTTP header {line[:80]!r}")
        headers[name.lower()] = value.strip()
    return int(code), reason, headers


def _chunk_size(line: bytes) -> int:
    digits = line.split(b";", 1)[0].strip()
    if not digits or len(digits) > 16 or digits.translate(None, b"0123456789abcdefABCDEF"):
        raise ProtocolError(f"malformed chunk size {line[:40]!r}")
    return int(digits, 16)
