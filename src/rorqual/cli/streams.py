"""An attached container's streams between the engine's socket and this process's stdin, stdout and stderr.

One poll loop in one thread moves everything: the socket's output (demultiplexed in place, written with writev, no copy
of payload), stdin (until its end, which half-closes the socket), signals (through a wakeup descriptor: passed on to the
container; SIGWINCH resizes) and the answer of a pending wait.
"""

from __future__ import annotations

import os
import select

from rorqual import errdefs
from rorqual.cli import terminal
from rorqual.client.demux import STDERR, SYSTEM_ERROR, Demultiplexer

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from rorqual.client.http1 import Socket
else:
    import _signal as signal  # the module itself imports `enum`: a tenth of a short command's time

BUFFER_BYTES = 1 << 20
STDIN_BYTES = 64 * 1024
WRITEV_PIECES = 512
_POLL_OUT = select.POLLOUT
_MSG_DONTWAIT = 0x40  # send(2); the module `socket` would cost its import
_POLL_IN = select.POLLIN | select.POLLHUP | select.POLLERR | select.POLLNVAL


class Detached(errdefs.Cancelled):
    """The user typed the detach keys."""

    def __init__(self) -> None:
        super().__init__("read escape sequence")


class Signals:
    """Signals as bytes of a pipe while the context lasts; handlers are put back after it.

    `take` gives the numbers that arrived. Nothing runs in a handler, so nothing is interrupted half-way.
    """

    __slots__ = ("_numbers", "_old", "_old_wakeup", "_write", "fd")

    def __init__(self, numbers: tuple[int, ...]) -> None:
        self._numbers = numbers
        self._old: dict[int, Any] = {}  # what signal.signal gave for each

    def __enter__(self) -> Signals:
        self.fd, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._old_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in self._numbers:
            self._old[number] = signal.signal(number, _ignore)
        return self

    def take(self) -> bytes:
        try:
            return os.read(self.fd, 256)
        except BlockingIOError:
            return b""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self.fd)
        os.close(self._write)


def _ignore(number: int, frame: object) -> None:
    """Keeps the default action from happening; the wakeup descriptor carries the signal."""


class Streamer:
    """Moves the streams of one attached socket until its output ends.

    `on_signal(number)` is called for each signal `signals` got. `watch` is a descriptor that makes `on_watch` run once
    when it is readable (a wait's answer).
    """

    __slots__ = (
        "_demux",
        "_early",
        "_filter",
        "_sock",
        "_stderr",
        "_stdin",
        "_stdout",
        "_tty",
        "_unsent",
        "on_signal",
        "signals",
    )

    def __init__(
        self,
        sock: Socket,
        early: bytes,
        *,
        tty: bool,
        stdin: int = -1,
        stdout: int = -1,
        stderr: int = -1,
        detach_keys: bytes = terminal.DEFAULT_DETACH_KEYS,
    ) -> None:
        self._sock = sock
        self._early = early
        self._unsent = memoryview(b"")  # of stdin: read no more until the engine has taken it
        self._tty = tty
        self._stdin = stdin
        self._stdout = stdout
        self._stderr = stderr
        self._demux = None if tty else Demultiplexer()
        self._filter = terminal.DetachFilter(detach_keys) if tty and stdin >= 0 else None
        self.signals: Signals | None = None
        self.on_signal: Callable[[int], None] | None = None

    def run(self) -> None:
        """Returns when the engine closed the stream; closes the socket in any case.

        Raises: Detached; ProtocolError; OSError when stdout cannot be written.
        """
        raw = terminal.RawMode(self._stdin if self._tty and self._stdin >= 0 else -1)
        try:
            with raw if self._tty and self._stdin >= 0 else _NOTHING:
                self._loop()
        finally:
            self._sock.close()

    def _loop(self) -> None:
        buffer = bytearray(BUFFER_BYTES if not self._tty else STDIN_BYTES)
        view = memoryview(buffer)
        if self._early:
            self._output(memoryview(self._early))
        sock_fd = self._sock.fileno()
        poll = select.poll()
        poll.register(sock_fd, _POLL_IN)
        if self._stdin >= 0:
            poll.register(self._stdin, _POLL_IN)
        signals = self.signals
        if signals is not None:
            poll.register(signals.fd, _POLL_IN)
        recv_into = getattr(self._sock, "recv_into")  # noqa: B009 (the Protocol names only what all sockets share)
        pending = getattr(self._sock, "pending", None)  # a TLS socket holds decrypted bytes that poll does not see
        while True:
            for fd, events in [(sock_fd, _POLL_IN)] if pending is not None and pending() else poll.poll():
                if fd == sock_fd:
                    # Both directions at once: an engine that waits for us to read must not find us waiting for it.
                    if self._unsent and events & _POLL_OUT:
                        wanted = self._send()
                        if not self._unsent:
                            poll.modify(sock_fd, _POLL_IN)
                            if wanted:
                                poll.register(self._stdin, _POLL_IN)
                        if not events & ~_POLL_OUT:
                            continue
                    try:
                        size = recv_into(buffer)
                    except ConnectionResetError:
                        return
                    if not size:
                        return
                    self._output(view[:size])
                elif fd == self._stdin:
                    if not self._input():
                        poll.unregister(fd)
                    elif self._unsent:
                        poll.unregister(fd)
                        poll.modify(sock_fd, _POLL_IN | _POLL_OUT)
                elif signals is not None:
                    for number in signals.take():
                        if self.on_signal is not None:
                            self.on_signal(number)

    def _input(self) -> bool:
        """Pass on what can be read of stdin; False at its end."""
        try:
            data = os.read(self._stdin, STDIN_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            self._half_close()
            return False
        if self._filter is not None:
            data, detached = self._filter.feed(data)
            if detached:
                if data:
                    self._sock.sendall(data)
                raise Detached
        self._unsent = memoryview(data)
        return self._send()

    def _send(self) -> bool:
        """Send what the socket takes of what is unsent; False when the engine takes no more input at all."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self._sock.send(self._unsent, _MSG_DONTWAIT) :]
        except BlockingIOError:
            return True
        except OSError:
            # The process closed its stdin or ended; what it wrote is still to be read.
            self._unsent = memoryview(b"")
            return False
        return True

    def _half_close(self) -> None:
        try:
            self._sock.shutdown(1)
        except OSError:
            pass

    def _output(self, data: memoryview) -> None:
        if self._demux is None:
            write_all(self._stdout, data)
            return
        frames = self._demux.feed(data)
        index = 0
        while index < len(frames):
            stream = frames[index][0]
            pieces: list[memoryview] = []
            while index < len(frames) and frames[index][0] == stream and len(pieces) < WRITEV_PIECES:
                pieces.append(frames[index][1])
                index += 1
            if stream == SYSTEM_ERROR:
                raise errdefs.Internal(f"error from daemon in stream: {b''.join(pieces).decode('utf-8', 'replace')}")
            write_pieces(self._stderr if stream == STDERR else self._stdout, pieces)


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *args: object) -> None: ...


_NOTHING = _Nothing()


def write_all(fd: int, data: memoryview) -> None:
    """Write all of `data`; nothing when `fd` is negative (a stream nobody wants)."""
    if fd < 0:
        return
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            select.select([], [fd], [])


def write_pieces(fd: int, pieces: list[memoryview]) -> None:
    """Write several buffers with as few calls as the kernel allows."""
    if fd < 0:
        return
    if len(pieces) == 1:
        write_all(fd, pieces[0])
        return
    total = sum(map(len, pieces))
    try:
        written = os.writev(fd, pieces)
    except BlockingIOError:
        written = 0
    if written == total:
        return
    for piece in pieces:
        if written >= len(piece):
            written -= len(piece)
            continue
        write_all(fd, piece[written:])
        written = 0
