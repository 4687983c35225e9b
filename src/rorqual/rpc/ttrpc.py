"""ttrpc: framing without I/O.

    frame    | length u32 | stream id u32 | type u8 | flags u8 | payload, at most 4 MiB |     big endian
    type     1 request (client, odd stream ids), 2 response, 3 data (streaming; not used here)

The ends: `rorqual.rpc.ttrpcclient` and `ttrpcserver` on asyncio, `rorqual.shim.rpcserver` on the shim's loop.
Source: containerd/ttrpc PROTOCOL.md.
"""

from __future__ import annotations

import struct

from rorqual import errdefs
from rorqual.record import record
from rorqual.rpc import codes, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    M = TypeVar("M", bound=wire.Message)

MESSAGE_LENGTH_MAX = 4 << 20
REQUEST, RESPONSE = 1, 2
TASK_SERVICE = "containerd.task.v3.Task"
_HEADER = struct.Struct(">IIBB")


@wire.message
class KeyValue(wire.Message):
    """Metadata of a request, e.g. containerd-namespace-ttrpc."""

    key: str = ""
    value: str = ""
    FIELDS = (wire.Field(1, "key", "string"), wire.Field(2, "value", "string"))


@wire.message
class Request(wire.Message):
    """One call; `timeout_nano` 0 means none."""

    service: str = ""
    method: str = ""
    payload: bytes = b""
    timeout_nano: int = 0
    metadata: list[KeyValue] = []
    FIELDS = (
        wire.Field(1, "service", "string"),
        wire.Field(2, "method", "string"),
        wire.Field(3, "payload", "bytes"),
        wire.Field(4, "timeout_nano", "varint"),
        wire.Field(5, "metadata", KeyValue, True),
    )


@wire.message
class Status(wire.Message):
    """google.rpc.Status without details."""

    code: int = 0
    message: str = ""
    FIELDS = (wire.Field(1, "code", "varint"), wire.Field(2, "message", "string"))


@wire.message
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


@record
class Frame:
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
