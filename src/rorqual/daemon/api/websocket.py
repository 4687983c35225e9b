"""attach over a WebSocket: its messages are the bytes of the container's streams, raw.

    client  <-- binary frames --  this process  <-- socketpair -->  shim
            --  masked frames -->

The shim knows no WebSocket, so the bytes pass through here; neither side is read faster than the other takes.
Source: RFC 6455; Engine API 1.56, ContainerAttachWebsocket.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
from collections.abc import Iterator
from typing import Any

from rorqual.daemon.api.backpressure import SlowReader
from rorqual.daemon.api.http import Call
from rorqual.daemon.web.request import Sender
from rorqual.errdefs import Internal, InvalidArgument

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FIN, _MASKED, _CONTROL = 0x80, 0x80, 0x08
_FRAME_MAX = 1 << 20
_CONTROL_MAX = 125  # RFC 6455 section 5.5
_EARLY_MAX = 64 * 1024


class FrameError(ValueError):
    """The client's bytes are no WebSocket frames, or one is too large."""


class FrameReader:
    """A client's bytes to frames. Pure."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """(opcode, payload) of each whole frame; a continuation has opcode 0. Raises: FrameError."""
        self._buffer += data
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        if not buffer[1] & _MASKED:
            raise FrameError("frames of a client are masked")
        size, at = buffer[1] & 0x7F, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            if len(buffer) < at + width:
                return None
            size = int.from_bytes(buffer[at : at + width], "big")
            at += width
        if size > _FRAME_MAX:
            raise FrameError(f"a frame of {size} bytes, at most {_FRAME_MAX} are taken")
        if size > _CONTROL_MAX and buffer[0] & _CONTROL:
            raise FrameError(f"a control frame of {size} bytes, at most {_CONTROL_MAX} are allowed")
        end = at + 4 + size
        if len(buffer) < end:
            return None
        mask = bytes(buffer[at : at + 4])
        payload = bytes(buffer[at + 4 : end])
        opcode = buffer[0] & 0x0F
        del buffer[:end]
        return opcode, _unmasked(payload, mask)


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    whole = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(len(payload), "big")


def frame(opcode: int, payload: bytes) -> bytes:
    """One frame of a server, which are not masked."""
    size = len(payload)
    if size < 126:
        head = bytes((_FIN | opcode, size))
    elif size < 1 << 16:
        head = bytes((_FIN | opcode, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((_FIN | opcode, 127)) + size.to_bytes(8, "big")
    return head + payload


def accept(key: str) -> str:
    """Sec-WebSocket-Accept for the client's key."""
    return base64.b64encode(hashlib.sha1(key.encode() + _MAGIC, usedforsecurity=False).digest()).decode()


class Connection:
    """A WebSocket as services.containers.attach.Connection."""

    def __init__(self, call: Call) -> None:
        """Take the connection and answer 101. Raises: InvalidArgument for a request that is no handshake."""
        request = call.request
        key = request.headers.get("Sec-WebSocket-Key", "")
        if request.headers.get("Upgrade", "").lower() != "websocket" or not key:
            raise InvalidArgument("not a websocket handshake")
        transport = request.connection.transport
        if transport is None:
            raise Internal("the client has gone away")
        self._client = _Client(transport, request.connection)
        early = request.connection.hand_over()
        transport.set_protocol(self._client)
        transport.write(_answer(key))
        if early:
            self._client.data_received(early)
        self._connecting: asyncio.Task[Any] | None = None

    def take(self) -> tuple[int, bytes]:
        """See attach.Connection."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        connecting = loop.create_connection(lambda: _Shim(self._client), sock=ours)
        self._connecting = loop.create_task(connecting)
        return theirs.detach(), b""

    def write(self, data: bytes) -> None:
        """See attach.Connection."""
        self._client.transport.write(frame(BINARY, data))

    async def send(self, data: bytes) -> None:
        """As write, at the client's pace."""
        if self._client.transport.is_closing():
            raise ConnectionResetError("the client has gone away")
        self.write(data)
        await self._client.drain()

    async def head_taken(self) -> None:
        """Nothing to wait for: clients of WebSockets read frames from where they read the head."""

    def close(self) -> None:
        """See attach.Connection; what the shim still sends goes on."""
        if self._connecting is None:
            self._client.end()


class _Client(SlowReader, asyncio.Protocol):
    """The client's side: frames to bytes for the shim."""

    def __init__(self, transport: asyncio.Transport, original: Sender) -> None:
        super().__init__()
        self.transport = transport
        self._original = original
        self._reader = FrameReader()
        self._early = bytearray()
        self._unanswered: bytes | None = None  # the last ping's payload, while the client does not read

    def attach(self, shim: asyncio.Transport) -> None:
        """The shim is there: it gets what came before, and what comes."""
        self.source = shim
        if self._early:
            shim.write(bytes(self._early))
            self._early.clear()
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        try:
            for opcode, payload in self._reader.feed(data):
                self._frame(opcode, payload)
        except FrameError:
            self.end(1002)

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == PING and self.is_slow:
            self._unanswered = payload  # the latest is enough (section 5.5.3): the answers would pile up
        elif opcode == PING:
            self.transport.write(frame(PONG, payload))
        elif opcode == CLOSE:
            self.end()
        elif opcode in (0, TEXT, BINARY):
            if self.source is not None:
                self.source.write(payload)
                return
            self._early += payload
            if len(self._early) > _EARLY_MAX:
                self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unanswered is not None:
            self.transport.write(frame(PONG, self._unanswered))
            self._unanswered = None

    def end(self, code: int = 1000) -> None:
        """Say good-bye and close; again is no error."""
        if not self.transport.is_closing():
            self.transport.write(frame(CLOSE, code.to_bytes(2, "big")))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._original.connection_lost(exc)  # it cancels the handler, if that still waits


class _Shim(asyncio.Protocol):
    """The shim's side: bytes to frames for the client."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._client.attach(transport)

    def data_received(self, data: bytes) -> None:
        self._client.transport.write(frame(BINARY, data))

    def pause_writing(self) -> None:
        self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self._client.transport.is_closing():
            self._client.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.end()


def _answer(key: str) -> bytes:
    head = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept(key)}\r\n"
    )
    return f"{head}\r\n".encode()
