"""A queue of messages and the socket they leave by, on the shim's loop; a lost connection is made again.

The loop waits for no receiver but the first time, before the container runs: a connection is made again in a thread,
and what is still queued at the container's end goes on being sent from the loop, after the shim's end by a child.

A message that was partly sent when its connection was lost is sent again as a whole: a receiver may see a torn one, but
none is missing.
"""

from __future__ import annotations

import _thread  # without what `threading` adds to a shim's memory
import errno
import os
import socket
import time
from collections import deque
from collections.abc import Callable

from rorqual.errdefs import Unavailable
from rorqual.shim.loop import IN, OUT, Loop, log

_CONNECT_TIMEOUT_S = 5.0
FLUSH_TIMEOUT_S = 3.0
_RETRY_FIRST_S, _RETRY_MAX_S = 0.25, 10.0
_MAX_BATCH = 64 * 1024


class Sender:
    """`connect` makes a connected socket, blocking for as long as it takes. `datagrams`: one message, one packet.

    Raises Unavailable when the first connection fails; a `lazy` one is made without waiting for it.
    """

    def __init__(
        self, loop: Loop, connect: Callable[[], socket.socket], *, datagrams: bool, lazy: bool = False
    ) -> None:
        self.on_room: Callable[[], None] | None = None
        self.waiting_bytes = 0
        self._loop = loop
        self._connect = connect
        self._datagrams = datagrams
        self._queue: deque[bytes] = deque()
        self._sent_of_first = 0
        self._retry_s = _RETRY_FIRST_S
        self._socket: socket.socket | None = None
        self._closing = False
        self._ended = False
        if lazy:
            self._connect_in_thread()
            return
        try:
            sock = connect()
        except OSError as e:
            raise Unavailable((e.strerror or str(e)).lower()) from e
        self._connected(sock)

    def _connected(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._sent_of_first = 0
        self._retry_s = _RETRY_FIRST_S
        self._loop.add(sock.fileno(), IN if not self._datagrams else 0, self._ready)

    def _connect_in_thread(self) -> None:
        """A receiver that swallows packets, a name server that is silent: neither may stop the loop."""
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        made: list[socket.socket] = []

        def work() -> None:
            try:
                made.append(self._connect())
            except OSError:
                return  # told by nothing being made
            finally:
                os.close(write_fd)

        def ended(_events: int) -> None:
            self._loop.remove(read_fd)
            os.close(read_fd)
            self._tried(made.pop() if made else None)

        self._loop.add(read_fd, 0, ended)  # its end is a hang-up
        _thread.start_new_thread(work, ())

    def _tried(self, sock: socket.socket | None) -> None:
        if sock is not None and self._ended:
            sock.close()
        elif sock is not None:
            self._connected(sock)
            self._flush()
        elif not self._ended:
            self._retry_later()

    def send(self, message: bytes) -> None:
        """Queue a message."""
        self._queue.append(message)
        self.waiting_bytes += len(message)
        if len(self._queue) == 1 or self.waiting_bytes < _MAX_BATCH:
            self._flush()

    def _ready(self, events: int) -> None:
        if events & OUT:
            self._flush()
        elif self._socket is not None and not self._datagrams:
            self._received()

    def _received(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(4096)
            if data and self._heard(data):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError as e:
            if self._wants(e):
                return
        self._lost()

    def _heard(self, _data: bytes) -> bool:
        """Receivers say nothing that matters: the end of a stream is what has to be noticed. False: end it."""
        return True

    @property
    def _pending(self) -> int:
        """How many messages are not with the receiver."""
        return len(self._queue)

    def _flush(self) -> None:
        sock = self._socket
        if sock is None:
            return
        try:
            self._send_queued(sock)
        except (BlockingIOError, InterruptedError):
            self._watch(OUT)
            return
        except OSError as e:
            if self._wants(e):
                self._watch(OUT)
            elif self._datagrams and e.errno in (errno.EMSGSIZE, errno.ECONNREFUSED):
                self._drop_first()  # too long for a packet, or nobody listens to a protocol that cannot know
                self._flush()
            elif self._datagrams and e.errno == errno.ENOBUFS:
                self._watch(OUT)
            else:
                self._lost()
            return
        if self._closing and not self._pending:
            self._end()
            return
        self._watch(0)
        if self.on_room is not None:
            self.on_room()

    @staticmethod
    def _wants(error: OSError) -> bool:
        """TLS has its own way to say that it must wait."""
        return type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError")

    def _send_queued(self, sock: socket.socket) -> None:
        while self._queue:
            self._send_some(sock)

    def _send_some(self, sock: socket.socket) -> None:
        if self._datagrams:
            sock.send(self._queue[0])
            self._drop_first()
            return
        batch = b"".join(self._batch())
        sent = sock.send(memoryview(batch)[self._sent_of_first :])
        self._advance(sent)

    def _batch(self) -> list[bytes]:
        found, size = [], 0
        for message in self._queue:
            found.append(message)
            size += len(message)
            if size >= _MAX_BATCH:
                break
        return found

    def _advance(self, sent: int) -> None:
        self._sent_of_first += sent
        while self._queue and self._sent_of_first >= len(self._queue[0]):
            self._sent_of_first -= len(self._queue[0])
            self._drop_first()

    def _drop_first(self) -> None:
        self.waiting_bytes -= len(self._queue.popleft())

    def _watch(self, events: int) -> None:
        if self._socket is not None:
            self._loop.modify(self._socket.fileno(), events | (0 if self._datagrams else IN))

    def _lost(self) -> None:
        if self._socket is not None:
            self._loop.remove(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self._closing and not self._pending:
            self._end()
        elif not self._ended:
            self._retry_later()

    def _retry_later(self) -> None:
        self._loop.call_later(self._retry_s, self._again)
        self._retry_s = min(self._retry_s * 2, _RETRY_MAX_S)

    def _again(self) -> None:
        if not self._ended and self._socket is None:
            self._connect_in_thread()

    def close(self) -> None:
        """Send no more than what waits, for a few seconds at most; returns at once, a second call does nothing.

        When the loop ends sooner, a child sends the rest (shim/leftovers.py).
        """
        if self._closing:
            return
        self._closing = True
        if not self._pending:
            self._end()
            return
        self._loop.last_words[self._drain] = self._fd
        self._loop.call_later(FLUSH_TIMEOUT_S, self._give_up)

    def _give_up(self) -> None:
        if not self._ended:
            self._report_unsent("the receiver does not take them")
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._loop.last_words.pop(self._drain, None)
        if self._socket is not None:
            self._loop.remove(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _fd(self) -> int:
        return self._socket.fileno() if self._socket is not None else -1

    def _drain(self) -> None:
        """Send what waits, blocking; in a child, after the loop's end."""
        deadline = time.monotonic() + FLUSH_TIMEOUT_S
        try:
            sock = self._socket = self._socket or self._connect()
            while self._queue and (left_s := deadline - time.monotonic()) > 0:
                sock.settimeout(left_s)
                self._send_some(sock)
        except OSError as e:
            self._report_unsent(str(e))

    def _report_unsent(self, reason: str) -> None:
        log(f"log: {self._pending} messages could not be sent at the end: {reason}")


def connect_stream(host: str, port: int) -> socket.socket:
    """A TCP connection. Raises OSError."""
    sock = socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S)
    if sock.getsockname() == sock.getpeername():
        # Without a listener, TCP may connect a loopback port of the ephemeral range to itself.
        sock.close()
        raise ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")
    return sock


def connect_datagram(host: str, port: int) -> socket.socket:
    """A connected UDP socket. Raises OSError for a name that cannot be resolved."""
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def connect_unix(path: str, kind: int) -> socket.socket:
    """A connected unix socket. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        sock.settimeout(_CONNECT_TIMEOUT_S)
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock
