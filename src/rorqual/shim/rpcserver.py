"""The ttrpc server end, on the shim's loop: one call at a time, answers in any order."""

from __future__ import annotations

import socket

from rorqual import errdefs
from rorqual.record import record
from rorqual.rpc import codes, ttrpc
from rorqual.rpc.wire import Message
from rorqual.shim.loop import IN, OUT, Loop, log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_READ_SIZE = 65536


@record
class Method:
    """A method of the service. `handler(request, reply)` calls `reply` once, now or later, or raises."""

    request: type[Message]
    handler: Callable[[Any, Callable[[Message], None]], None]


class Server:
    """Serves `methods` under any of `services`, on accepted and on given connections."""

    def __init__(self, loop: Loop, services: tuple[str, ...], methods: dict[str, Method]) -> None:
        self._loop = loop
        self._services = services
        self._methods = methods
        self._listener: socket.socket | None = None
        self._connections: set[_Connection] = set()

    def listen(self, sock: socket.socket) -> None:
        """Accept connections; takes the socket over."""
        sock.setblocking(False)
        self._listener = sock

        def ready(_events: int) -> None:
            try:
                connection, _ = sock.accept()
            except BlockingIOError:
                return
            self.serve(connection)

        self._loop.add(sock.fileno(), IN, ready)

    def serve(self, sock: socket.socket, on_close: Callable[[], None] | None = None) -> None:
        """Serve one connection until its end, then call `on_close`; takes the socket over."""
        connection = _Connection(self._loop, sock, self._dispatch, lambda: closed())
        self._connections.add(connection)

        def closed() -> None:
            self._connections.discard(connection)
            if on_close is not None:
                on_close()

    def close(self) -> None:
        """Stop serving."""
        if self._listener is not None:
            self._loop.remove(self._listener.fileno())
            self._listener.close()
            self._listener = None
        for connection in list(self._connections):
            connection.close()

    def _dispatch(self, request: ttrpc.Request, reply: Callable[[ttrpc.Response], None]) -> None:
        def fail(error: BaseException) -> None:
            reply(ttrpc.Response(status=ttrpc.Status(codes.code_of(error), str(error) or type(error).__name__)))

        method = self._methods.get(request.method) if request.service in self._services else None
        if method is None:
            fail(errdefs.NotImplementedHere(f"no method {request.service}/{request.method}"))
            return
        try:
            method.handler(
                method.request.decode(request.payload), lambda message: reply(ttrpc.Response(payload=message.encode()))
            )
        except errdefs.Error as e:
            fail(e)
        except Exception as e:  # the caller must get an answer, whatever went wrong here
            log(f"{request.method}: {type(e).__name__}: {e}")
            fail(e)


class _Connection:
    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        dispatch: Callable[[ttrpc.Request, Callable[[ttrpc.Response], None]], None],
        on_close: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._loop = loop
        self._sock: socket.socket | None = sock
        self._dispatch = dispatch
        self._on_close = on_close
        self._parser = ttrpc.Parser()
        self._out = bytearray()
        loop.add(sock.fileno(), IN, self._ready)

    def _ready(self, events: int) -> None:
        if events & OUT:
            self._flush()
        if events & ~OUT and self._sock is not None:
            self._read()

    def _read(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(_READ_SIZE)
            frames = self._parser.feed(data)
        except BlockingIOError:
            return
        except (OSError, errdefs.InvalidArgument):
            self.close()
            return
        if not data:
            self.close()
            return
        for frame in frames:
            if frame.kind == ttrpc.REQUEST:
                self._request(frame)

    def _request(self, frame: ttrpc.Frame) -> None:
        def reply(response: ttrpc.Response) -> None:
            if self._sock is not None:
                self._out += ttrpc.pack(frame.stream_id, ttrpc.RESPONSE, response)
                self._flush()

        try:
            request = ttrpc.Request.decode(frame.payload)
        except errdefs.InvalidArgument as e:
            reply(ttrpc.Response(status=ttrpc.Status(codes.code_of(e), str(e))))
            return
        self._dispatch(request, reply)

    def _flush(self) -> None:
        if self._sock is None:
            return
        try:
            del self._out[: self._sock.send(self._out)]
        except BlockingIOError:
            pass  # the rest goes when the socket is writable
        except OSError:
            self.close()
            return
        self._loop.modify(self._sock.fileno(), IN | OUT if self._out else IN)

    def close(self) -> None:
        """Close it; a second call does nothing."""
        if self._sock is not None:
            self._loop.remove(self._sock.fileno())
            self._sock.close()
            self._sock = None
            self._on_close()
