"""The asyncio end of a ttrpc connection that calls: containerd towards its shims."""

from __future__ import annotations

import asyncio
import socket
from typing import TypeVar

from rorqual import errdefs
from rorqual.rpc import ttrpc, wire

_READ_SIZE = 65536

M = TypeVar("M", bound=wire.Message)


class Client:
    """One connection to a ttrpc server, for any number of concurrent calls. Owns the socket it is given."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._parser = ttrpc.Parser()
        self._next_stream = 1
        self._calls: dict[int, asyncio.Future[ttrpc.Response]] = {}
        self._out = bytearray()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(sock, self._readable)

    async def call(
        self,
        method: str,
        request: wire.Message,
        kind: type[M],
        *,
        service: str = ttrpc.TASK_SERVICE,
        timeout_s: float | None = None,
    ) -> M:
        """The server's answer. Raises its error, Unavailable when the connection is lost, DeadlineExceeded."""
        if self.closed.done():
            raise errdefs.Unavailable("ttrpc: closed")
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        message = ttrpc.Request(service, method, request.encode(), int((timeout_s or 0) * 1e9))
        frame = ttrpc.pack(stream, ttrpc.REQUEST, message)
        future: asyncio.Future[ttrpc.Response] = self._loop.create_future()
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
                future.exception()  # its caller may have gone, or fail by the write that found the end: nothing to log

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_READ_SIZE)
            if not data:
                self.close()
                return
            for frame in self._parser.feed(data):
                future = self._calls.get(frame.stream_id)
                if frame.kind == ttrpc.RESPONSE and future is not None and not future.done():
                    future.set_result(ttrpc.Response.decode(frame.payload))
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
