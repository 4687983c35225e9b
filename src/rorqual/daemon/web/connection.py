"""One client's connection: requests one after the other, each handled by a task that the client's going away cancels.

    idle --head--> handling --answer--> rest of the body passed over --> idle
                      |                                           \\--> closed (Connection: close, shutdown, too much)
                      \\--hand_over--> another protocol has the transport

Bytes that come while a request is handled are kept for the next one, or for who takes the connection over; the socket
rests when they are many.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from rorqual.daemon.web import head as heads
from rorqual.daemon.web.body import BodyReader, ByChunks, ByLength, Decoder
from rorqual.daemon.web.head import Malformed
from rorqual.daemon.web.request import Request
from rorqual.daemon.web.response import StreamResponse, encode_head

log = logging.getLogger(__name__)

IDLE_S = 3600.0
HEAD_S = 60.0  # from a head's first byte to its last
_AHEAD_MAX = 32 * 1024  # bytes kept of what comes after a request
_LINGER_S = 2.0  # for the rest of a body that nobody reads
_LINGER_BYTES = 8 << 20

Handler = Callable[[Request], Awaitable[StreamResponse]]


class Owner(Protocol):
    """The server's side: who handles requests, and whether it is about to stop."""

    handler: Handler
    closing: bool

    def opened(self, connection: Connection) -> None: ...
    def closed(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """Implements rorqual.daemon.web.request.Sender."""

    __slots__ = (
        "_ahead",
        "_body",
        "_continue",
        "_decoder",
        "_ends",
        "_loop",
        "_lost",
        "_owner",
        "_resting",
        "_taken",
        "_timer",
        "_writable",
        "task",
        "transport",
    )

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.task: asyncio.Task[None] | None = None  # of the request that is handled
        self._ahead = bytearray()
        self._decoder: Decoder | None = None  # of a body that has not ended
        self._body: BodyReader | None = None
        self._writable: asyncio.Future[None] | None = None  # while the client does not read
        self._timer: asyncio.TimerHandle | None = None
        self._ends = False
        self._continue = False  # the client waits for 100 before it sends the body
        self._lost = False
        self._taken = False
        self._resting = False

    # ---- asyncio's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._owner.opened(self)
        self._timeout(IDLE_S)

    def data_received(self, data: bytes) -> None:
        self._ahead += data
        if self._decoder is not None:
            self._feed()
        elif self.task is None:
            self._next()
        elif len(self._ahead) > _AHEAD_MAX:
            self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._timeout(None)
        self._owner.closed(self)
        gone = ConnectionResetError("the client has gone away")
        if self._body is not None:
            self._body.fail(gone)
        if self._writable is not None and not self._writable.done():
            self._writable.set_exception(gone)
            self._writable.exception()  # that nobody may be waiting is no mistake
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # ---- Sender

    async def send(self, data: bytes) -> None:
        transport = self.transport
        if self._lost or transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone away")
        transport.write(data)
        if self._writable is not None:
            await asyncio.shield(self._writable)

    def hand_over(self) -> bytes:
        self._taken = True
        early = bytes(self._ahead)
        self._ahead.clear()
        self._go_on()
        return early

    def end_after_response(self) -> None:
        self._ends = True

    # ---- one request after the other

    def _next(self) -> None:
        """Begin the next request if its head is there."""
        buffer = self._ahead
        while buffer[:2] == b"\r\n":  # RFC 9112 section 2.2
            del buffer[:2]
        end = buffer.find(b"\r\n\r\n")
        if end < 0 and len(buffer) <= heads.HEAD_MAX:
            self._timeout(HEAD_S if buffer else IDLE_S)
            return
        self._timeout(None)
        try:
            if not 0 <= end <= heads.HEAD_MAX:
                raise Malformed(431, "request header fields too large")
            head = heads.parse(bytes(buffer[:end]))
        except Malformed as e:
            self._refuse(e)
            return
        del buffer[: end + 4]
        self._body = BodyReader(wanted=self._wanted, full=self._rest, drained=self._go_on)
        self._decoder = ByChunks() if head.length is None else ByLength(head.length)
        self._ends = not head.keep_alive
        self._continue = head.expects_continue
        self.task = self._loop.create_task(self._handle(Request(head, self._body, self)))
        self._feed()

    def _wanted(self) -> None:
        if self._continue and self._decoder is not None and self.transport is not None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._continue = False

    def _feed(self) -> None:
        assert self._decoder is not None and self._body is not None
        try:
            pieces = self._decoder.feed(self._ahead)
        except Malformed as e:
            self._decoder = None
            self._ends = True
            self._body.fail(e)
            return
        if self._decoder.done:
            self._decoder = None
        self._body.feed(pieces, ended=self._decoder is None)

    async def _handle(self, request: Request) -> None:
        try:
            response = await self._owner.handler(request)
            if not self._taken:
                await response.complete(request)
                await self._pass_over_body()
        except ConnectionAbortedError as e:
            log.warning("%s %s: %s", request.method, request.raw_path, e)
            self._ends = True
        except ConnectionError:
            self._ends = True
        except asyncio.CancelledError:
            self._ends = True
            raise
        except Exception:
            log.exception("%s %s", request.method, request.raw_path)
            self._ends = True
        finally:
            self.task = self._body = None
            if not self._taken:
                self._finish()

    def _finish(self) -> None:
        """Close, or wait for the next request."""
        if self._lost or self.transport is None:
            return
        if self._ends or self._owner.closing or self._decoder is not None:
            self.transport.close()
            return
        self._go_on()
        self._next()

    async def _pass_over_body(self) -> None:
        """Take what the handler did not read: closing with unread bytes would make the client lose the answer."""
        if self._decoder is None or self._body is None:
            return
        if self._continue:  # it was not asked for, and may never come
            self._ends = True
            return
        left = _LINGER_BYTES
        try:
            async with asyncio.timeout(_LINGER_S):
                async for piece in self._body.iter_any():
                    left -= len(piece)
                    if left < 0:
                        break
        except (TimeoutError, Malformed):
            self._ends = True

    def _refuse(self, error: Malformed) -> None:
        assert self.transport is not None
        text = f"{error.status} Bad Request: {error}".encode()
        headers = {"Content-Type": "text/plain; charset=utf-8", "Connection": "close", "Content-Length": str(len(text))}
        self.transport.write(encode_head(error.status, headers) + text)
        self.transport.close()

    # ---- the socket rests, time runs out

    def _rest(self) -> None:
        if not self._resting and self.transport is not None:
            self._resting = True
            self.transport.pause_reading()

    def _go_on(self) -> None:
        if self._resting and self.transport is not None:
            self._resting = False
            self.transport.resume_reading()

    def _timeout(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None and self.transport is not None:
            self._timer = self._loop.call_later(seconds, self.transport.close)

    def stop(self) -> None:
        """Close it when nothing is being handled; otherwise after the answer."""
        if self.task is None and self.transport is not None and not self._taken:
            self.transport.close()
