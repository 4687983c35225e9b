"""ttrpc: framing without I/O, and the asyncio client that containerd uses towards its shims.

    frame    | length u32 | stream id u32 | type u8 | flags u8 | payload, at most 4 MiB |     big endian
    type     1 request (client, odd stream ids), 2 response, 3 data (streaming; not used here)

The shim's server end is `rorqual.shim.rpcserver`; this module must not import asyncio for it, so the client's import is
deferred to the class that needs it. Source: containerd/ttrpc PROTOCOL.md.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from rorqual import errdefs
from rorqual.rpc import codes, wire

if TYPE_CHECKING:
    import asyncio

MESSAGE_LENGTH_MAX = 4 << 20
REQUEST, RESPONSE = 1, 2
TASK_SERVICE = "containerd.task.v3.Task"
_HEADER = struct.Struct(">IIBB")
_READ_SIZE = 65536

M = TypeVar("M", bound=wire.Message)


@dataclass(slots=True)
class KeyValue(wire.Message):
    """Metadata of a request, e.g. containerd-namespace-ttrpc."""

    key: str = ""
    value: str = ""
    FIELDS = (wire.Field(1, "key", "string"), wire.Field(2, "value", "string"))


@dataclass(slots=True)
class Request(wire.Message):
    """One call; `timeout_nano` 0 means none."""

    service: str = ""
    method: str = ""
    payload: bytes = b""
    timeout_nano: int = 0
    metadata: list[KeyValue] = field(default_factory=list)
    FIELDS = (
        wire.Field(1, "service", "string"),
        wire.Field(2, "method", "string"),
        wire.Field(3, "payload", "bytes"),
        wire.Field(4, "timeout_nano", "varint"),
        wire.Field(5, "metadata", KeyValue, True),
    )


@dataclass(slots=True)
class Status(wire.Message):
    """google.rpc.Status without details."""

    code: int = 0
    message: str = ""
    FIELDS = (wire.Field(1, "code", "varint"), wire.Field(2, "message", "string"))


@dataclass(slots=True)
class Response(wire.Message):
    """The answer to one call; `status` is None for success."""

    status: Status | None = None
    payload: bytes = b""
    FIELDS = (wire.Field(1, "status", Status), wire.Field(2, "payload", "bytes"))

    def result(self, kind: type[M]) -> M:
        """The decoded payload. Raises the peer's error."""
        if self.status is not None and self.status.code != codes.OK:
            raise codes.error_of(self.status.code, self.status.message)
        return kind.decode(self.payload)


class Frame(NamedTuple):
    """A whole frame as received."""

    stream_id: int
    kind: int
    payload: bytes


def pack(stream_id: int, kind: int, message: wire.Message) -> bytes:
    """The frame of a message. Raises ResourceExhausted when it is longer than the protocol allows."""
    payload = message.encode()
    if len(payload) > MESSAGE_LENGTH_MAX:
        raise errdefs.ResourceExhausted(f"ttrpc: message of {len(payload)} bytes exceeds {MESSAGE_LENGTH_MAX}")
    return _HEADER.pack(len(payload), stream_id, kind, 0) + payload


class Parser:
    """Bytes in, frames out."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames completed by `data`. Raises InvalidArgument for a length beyond the protocol's."""
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        at = 0
        while len(buffer) - at >= _HEADER.size:
            length, stream_id, kind, _flags = _HEADER.unpack_from(buffer, at)
            if length > MESSAGE_LENGTH_MAX:
                raise errdefs.InvalidArgument(f"ttrpc: frame of {length} bytes exceeds {MESSAGE_LENGTH_MAX}")
            end = at + _HEADER.size + length
            if len(buffer) < end:
                break
            frames.append(Frame(stream_id, kind, bytes(buffer[at + _HEADER.size : end])))
            at = end
        if at:
            del buffer[:at]
        return frames


class Client:
    """One connection to a ttrpc server, for any number of concurrent calls. Owns the socket it is given."""

    def __init__(self, sock: socket.socket) -> None:
        import asyncio

        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._parser = Parser()
        self._next_stream = 1
        self._calls: dict[int, asyncio.Future[Response]] = {}
        self._out = bytearray()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(sock, self._readable)

    async def call(
        self,
        method: str,
        request: wire.Message,
        kind: type[M],
        *,
        service: str = TASK_SERVICE,
        timeout_s: float | None = None,
    ) -> M:
        """The server's answer. Raises its error, Unavailable when the connection is lost, DeadlineExceeded."""
        import asyncio

        if self.closed.done():
            raise errdefs.Unavailable("ttrpc: closed")
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        message = Request(service, method, request.encode(), int((timeout_s or 0) * 1e9))
        frame = pack(stream, REQUEST, message)
        future: asyncio.Future[Response] = self._loop.create_future()
        self._calls[stream] = future
        try:
            self._write(frame)
            async with asyncio.timeout(timeout_s):
                return (await future).result(kind)
        except TimeoutError as e:
            raise errdefs.DeadlineExceeded(f"ttrpc: {method}: no answer in {timeout_s} s") from e
        finally:
            self._calls.pop(stream, None)

    def close(self) -> None:
        """Close the connection; calls under way raise Unavailable. A second call does nothing."""
        if self.closed.done():
            return
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        self.closed.set_result(None)
        for future in self._calls.values():
            if not future.done():
                future.set_exception(errdefs.Unavailable("ttrpc: closed"))

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_READ_SIZE)
            if not data:
                self.close()
                return
            for frame in self._parser.feed(data):
                future = self._calls.get(frame.stream_id)
                if frame.kind == RESPONSE and future is not None and not future.done():
                    future.set_result(Response.decode(frame.payload))
        except BlockingIOError:
            return
        except (OSError, errdefs.InvalidArgument):
            self.close()

    def _write(self, data: bytes) -> None:
        if self._out:
            self._out += data
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as e:
            self.close()
            raise errdefs.Unavailable(f"ttrpc: {e.strerror}") from e
        if sent < len(data):
            self._out += data[sent:]
            self._loop.add_writer(self._sock, self._writable)

    def _writable(self) -> None:
        try:
            del self._out[: self._sock.send(self._out)]
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not self._out:
            self._loop.remove_writer(self._sock)
