"""101: the client's connection is taken from HTTP, answered, and given to the shim.

    client                         daemon                                   shim
    POST .../attach, Upgrade: tcp -> the transport gets a protocol of ours
                                  <- 101 UPGRADED (200 OK without Upgrade)
    early bytes                   -> kept (at most _EARLY_MAX)
                                     take(): a duplicate of the socket, reading stopped --- SCM_RIGHTS --> owns it
                                     close(): our end; the connection lives on in the shim

A connection that isn't a plain socket (TLS) cannot be handed over, nor one whose client sent more than fits with its
request: a socketpair stands in for it, and the bytes are copied between for as long as it lasts.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sys
import termios
from typing import Any

from rorqual.daemon import web
from rorqual.daemon.api.backpressure import SlowReader
from rorqual.daemon.api.http import Call
from rorqual.daemon.web.request import Sender
from rorqual.errdefs import Internal
from rorqual.version import API_VERSION

_EARLY_MAX = 32 * 1024  # a datagram of the stream socket carries them, base64
_HEAD_TRIES, _HEAD_PAUSE_S = 50, 0.002
MUX_TYPE = "application/vnd.docker.multiplexed-stream"
RAW_TYPE = "application/vnd.docker.raw-stream"


class _Taken(SlowReader, asyncio.BufferedProtocol):
    """The connection between 101 and the shim: keeps early bytes, and tells the server when the client goes away.

    The buffer that is read into has the size of what may still be kept, so that never more is read than can be passed
    on; the rest stays in the socket, for the shim.
    """

    def __init__(self, original: Sender, early: bytes) -> None:
        super().__init__()
        self.original = original
        self.early = bytearray(early)
        self.ended = False  # the client's direction
        self.sink: asyncio.Transport | None = None  # to copy to, for TLS; it is `source` too
        self.transport: asyncio.Transport | None = None
        self._buffer = bytearray(_EARLY_MAX)

    def get_buffer(self, sizehint: int) -> memoryview:
        room = _EARLY_MAX - len(self.early)
        return memoryview(self._buffer)[: room if room > 0 else 1]

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._buffer[:nbytes])
        if self.sink is not None:
            self.sink.write(data)
            return
        self.early += data
        if len(self.early) >= _EARLY_MAX and self.transport is not None:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        # Half-closed: `echo | docker attach`. The connection stays; the shim sees the end of input itself.
        self.ended = True
        if self.sink is not None and self.sink.can_write_eof():
            self.sink.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.original.connection_lost(exc)  # it cancels the handler, if that still waits


class Hijacked(web.StreamResponse):
    """What the handler returns: the server has nothing left to send."""


class Connection:
    """A hijacked connection: services.containers.attach.Connection."""

    def __init__(self, call: Call, content_type: str) -> None:
        """Take the connection and answer. The request's body must have been read."""
        request = call.request
        transport = request.connection.transport
        if transport is None:
            raise Internal("the client has gone away")
        self._transport = transport
        self._protocol = _Taken(request.connection, request.connection.hand_over())
        self._protocol.transport = self._transport
        self._transport.set_protocol(self._protocol)
        self._transport.write(_answer(request, content_type))
        self._copy: asyncio.Task[Any] | None = None

    def take(self) -> tuple[int, bytes]:
        """See attach.Connection."""
        if self._transport.get_extra_info("ssl_object") is not None or len(self._protocol.early) > _EARLY_MAX:
            return self._take_copied()
        self._transport.pause_reading()
        sock = self._transport.get_extra_info("socket")
        early = bytes(self._protocol.early)
        self._protocol.early.clear()
        return os.dup(sock.fileno()), early

    def _take_copied(self) -> tuple[int, bytes]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._transport.pause_reading()
        loop = asyncio.get_running_loop()
        copier = _Copier(self._transport, self._protocol)
        connecting = loop.create_task(loop.create_connection(lambda: copier, sock=ours))
        connecting.add_done_callback(self._copying)
        self._copy = connecting
        return theirs.detach(), b""

    def _copying(self, connecting: asyncio.Task[tuple[asyncio.Transport, asyncio.Protocol]]) -> None:
        if connecting.cancelled() or connecting.exception() is not None:
            self._transport.close()
            return
        sink, _ = connecting.result()
        sink.write(bytes(self._protocol.early))
        self._protocol.early.clear()
        self._protocol.sink = sink
        if self._protocol.ended:
            sink.write_eof()
        self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        """See attach.Connection."""
        self._transport.write(data)

    async def send(self, data: bytes) -> None:
        """As write, at the client's pace. Raises: ConnectionError when it has gone away."""
        if self._transport.is_closing():
            raise ConnectionResetError("the client has gone away")
        self._transport.write(data)
        await self._protocol.drain()

    async def head_taken(self) -> None:
        """Returns when the client has read the answer's head, or is too slow for that.

        docker-py reads the head through a buffer and then from the socket itself: what came in one piece with the head
        is lost to it. Where a log follows at once, that would be the log.
        """
        sock = self._transport.get_extra_info("socket")
        if sock is None or sock.family != socket.AF_UNIX:
            return  # of tcp the kernel tells what was acknowledged, not what was read
        for _ in range(_HEAD_TRIES):
            unread = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
            if not int.from_bytes(unread, sys.byteorder):
                return
            await asyncio.sleep(_HEAD_PAUSE_S)

    def close(self) -> None:
        """See attach.Connection."""
        if self._copy is None:
            self._transport.close()


class _Copier(asyncio.Protocol):
    """From the shim's end of the socketpair to the client, each side at the other's pace."""

    def __init__(self, client: asyncio.Transport, taken: _Taken) -> None:
        self._client = client
        self._taken = taken

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._taken.source = transport

    def pause_writing(self) -> None:
        self._client.pause_reading()

    def resume_writing(self) -> None:
        if not self._client.is_closing():
            self._client.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.close()


def _answer(request: web.Request, content_type: str) -> bytes:
    upgrade = request.headers.get("Upgrade", "")
    if upgrade:
        head = f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n"
    else:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n"
    return f"{head}Api-Version: {API_VERSION}\r\nOstype: linux\r\n\r\n".encode()


def content_type(call: Call, *, tty: bool) -> str:
    """The stream's media type; before 1.42 everything is called raw."""
    return RAW_TYPE if tty or call.version < (1, 42) else MUX_TYPE
