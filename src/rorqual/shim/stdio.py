"""A process's stdio: what it writes goes to the log and to attached clients; what clients send goes to its stdin.

    process stdout/stderr pipes, or the pty's master --> Output --> LogDriver
                                                              \\--> Client, Client ... (a connection, or ctr's FIFOs)
    process stdin pipe, or the pty's master <------------------------ Client

A client that does not read stops the process's output once PENDING_MAX bytes wait for it, as Docker's attach does.
Nothing here knows containers.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import time
from collections.abc import Callable

from rorqual.linux import malloc
from rorqual.shim.detach import DetachScanner
from rorqual.shim.leftovers import drop
from rorqual.shim.logdrivers import LogDriver
from rorqual.shim.loop import HUP, IN, OUT, RDHUP, Loop, log

# What a pipe holds. A larger buffer would be a mapping of its own each time (malloc's M_MMAP_THRESHOLD is 128 KiB), and
# the page faults of that cost more than the reads that it saves.
READ_SIZE = 64 * 1024
_CALM_S = 2.0  # after so long, the heap that much output took is given back
PENDING_MAX = 1 << 20
STDIN_PENDING_MAX = 64 * 1024
_PIPE_MAX = 1 << 20  # bytes: what a pipe can be made to hold (pipe(7), pipe-max-size)
STDOUT, STDERR = 1, 2
_FRAME = struct.Struct(">BxxxI")  # stream, length: Engine API, ContainerAttach, "Stream format"
_WINSIZE = struct.Struct("HHHH")  # tty_ioctl(4)
_NAMES = {STDOUT: "stdout", STDERR: "stderr"}


class Client:
    """One attached peer. Owns its fds: `read_fd` and `write_fd` may be the same connection; -1 for a missing side."""

    def __init__(
        self,
        hub: Stdio,
        read_fd: int,
        write_fd: int,
        *,
        streams: frozenset[int],
        stdin: bool,
        mux: bool,
        detach_keys: bytes = b"",
    ) -> None:
        self.reason = ""  # why it ended: "detached", "eof" (the process ended) or "closed" (the peer went)
        self.on_end: list[Callable[[str], None]] = []
        self._hub = hub
        self._read_fd, self._write_fd = read_fd, write_fd
        self._streams = streams
        self._mux = mux
        self._stdin = stdin
        self._scanner = DetachScanner(detach_keys) if detach_keys else None
        self._pending: list[memoryview] = []
        self.pending_bytes = 0
        self._finishing = False
        self._pending_reason = ""
        for fd in {read_fd, write_fd} - {-1}:
            os.set_blocking(fd, False)
            hub.loop.add(fd, 0, lambda events, fd=fd: self._ready(fd, events))  # type: ignore[misc]
        self._watch()

    @property
    def ended(self) -> bool:
        """Whether its fds are closed."""
        return bool(self.reason)

    def send(self, stream: int, data: bytes) -> None:
        """Queue output of a stream, if this client wants it."""
        if self.reason or self._finishing or stream not in self._streams or self._write_fd < 0:
            return
        parts = [memoryview(_FRAME.pack(stream, len(data)))] if self._mux else []
        self._queue([*parts, memoryview(data)])

    def receive(self, data: bytes) -> None:
        """Bytes the peer sent."""
        if not self._stdin:
            return
        if self._scanner is not None:
            data, detached = self._scanner.feed(data)
            if data:
                self._hub.write_stdin(data)
            if detached:
                self.end("detached")
            return
        self._hub.write_stdin(data)

    def finish(self, reason: str) -> None:
        """End once everything queued has been sent."""
        if self._pending and not self.reason:
            self._finishing = True
            self._pending_reason = reason
            self._hub.loop.unsent.add(self._left)
        else:
            self.end(reason)

    def end(self, reason: str) -> None:
        """Close now; a second call does nothing."""
        if self.reason:
            return
        self.reason = reason
        self._hub.loop.unsent.discard(self._left)
        for fd in {self._read_fd, self._write_fd} - {-1}:
            self._hub.loop.remove(fd)
            os.close(fd)
        self._pending.clear()
        self.pending_bytes = 0
        self._hub.client_ended(self)
        for callback in self.on_end:
            callback(reason)

    def _left(self) -> tuple[int, list[memoryview]]:
        return self._write_fd, self._pending

    def watch_stdin(self) -> None:
        """Look again at whether the process's stdin has room."""
        if not self.reason:
            self._watch()

    def _queue(self, parts: list[memoryview]) -> None:
        if not self._pending:
            try:
                sent = os.writev(self._write_fd, parts)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.end("closed")
                return
            parts = drop(parts, sent)
            if not parts:
                return
            self._pending = parts
            self.pending_bytes = sum(map(len, parts))
            self._watch()
        else:
            self._pending += parts
            self.pending_bytes += sum(map(len, parts))
        self._hub.client_is_slow()

    def _watch(self) -> None:
        reading = self._stdin and not self._finishing and self._hub.stdin_has_room()
        read_events = IN | RDHUP if reading else 0
        write_events = OUT if self._pending else 0
        if self._read_fd == self._write_fd:
            self._hub.loop.modify(self._read_fd, read_events | write_events)
            return
        if self._read_fd >= 0:
            self._hub.loop.modify(self._read_fd, read_events)
        if self._write_fd >= 0:
            self._hub.loop.modify(self._write_fd, write_events)

    def _ready(self, fd: int, events: int) -> None:
        if events & OUT:
            self._flush()
        if self.reason:
            return
        if events & (IN | RDHUP):
            self._read()
        elif events & HUP:
            self._hang_up(fd)

    def _hang_up(self, fd: int) -> None:
        if fd == self._write_fd:
            self.end("closed")
            return
        # The writers of a FIFO went: its output side goes on. Level-triggered, so it must leave the loop.
        self._hub.loop.remove(fd)
        os.close(fd)
        self._read_fd, self._stdin = -1, False

    def _flush(self) -> None:
        try:
            sent = os.writev(self._write_fd, self._pending[:64])
        except BlockingIOError:
            return
        except OSError:
            self.end("closed")
            return
        self._pending = drop(self._pending, sent)
        self.pending_bytes -= sent
        if self._pending:
            return
        if self._finishing:
            self.end(self._pending_reason)
            return
        self._watch()
        self._hub.client_has_room()

    def _read(self) -> None:
        try:
            data = os.read(self._read_fd, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.receive(data)
            if not self.reason:
                self._watch()
            return
        self._stdin = False
        self._watch()
        self._hub.stdin_ended(self)


class Stdio:
    """The hub of one process. The process's ends of the pipes are the caller's to close after the process started."""

    def __init__(self, loop: Loop, *, log_driver: LogDriver | None = None, tty: bool, close_stdin: bool) -> None:
        self.loop = loop
        self.clients: list[Client] = []
        self.tty = tty
        self._log = log_driver
        if log_driver is not None:
            log_driver.on_room = self.client_has_room
        self._close_stdin = close_stdin
        self._outputs: dict[int, int] = {}  # fd -> stream
        self._stdin_fd = -1
        self._stdin_pending = bytearray()
        self._stdin_closing = False
        self._paused = False
        self._trims = False
        self._drained: Callable[[], None] | None = None

    # ---- the process's side ----

    def add_output(self, fd: int, stream: int) -> None:
        """Read what the process writes to `stream` from fd; takes fd over."""
        os.set_blocking(fd, False)
        self._outputs[fd] = stream
        self.loop.add(fd, 0 if self._paused else IN, lambda events, fd=fd: self._output_ready(fd, events))  # type: ignore[misc]

    def set_stdin(self, fd: int) -> None:
        """Write what clients send to fd (the pipe's write end, or the pty's master); takes a pipe over."""
        os.set_blocking(fd, False)
        self._stdin_fd = fd
        if fd not in self._outputs:
            self.loop.add(fd, 0, self._stdin_ready)
        if self._stdin_pending:
            self._flush_stdin()
        elif self._stdin_closing:
            self.close_stdin()
        for client in list(self.clients):
            client.watch_stdin()

    def resize(self, height: int, width: int) -> None:
        """Set the pty's size, in cells; nothing happens before the process has one."""
        if self.tty and self._stdin_fd >= 0:
            fcntl.ioctl(self._stdin_fd, termios.TIOCSWINSZ, _WINSIZE.pack(height, width, 0, 0))

    def process_exited(self, drained: Callable[[], None], timeout_s: float = 2.0) -> None:
        """Call `drained` once all output was read, at the latest after dockerd's two seconds for background writers."""
        self._drained = drained
        for fd in list(self._outputs):
            # What the process wrote is in the pipe by now. What others, left behind by it, go on writing must not
            # keep the shim here: it is read with all else, until the time is up.
            left = _PIPE_MAX
            while left > 0 and fd in self._outputs and (size := self._read_output(fd)):
                left -= size
        self._check_drained()
        if self._drained is not None:
            self._set_paused(False)
            self.loop.call_later(timeout_s, self._give_up)

    def close(self) -> None:
        """End everything; clients get what is queued for them first."""
        for fd in list(self._outputs):
            self._close_output(fd)
        self._drop_stdin()
        for client in list(self.clients):
            client.finish("eof")
        if self._log is not None:
            try:
                self._log.close()
            except OSError as e:
                log(f"log: {e}")
            self._log = None

    def _output_ready(self, fd: int, events: int) -> None:
        if events & OUT and fd == self._stdin_fd:
            self._flush_stdin()
        if events & ~OUT and fd in self._outputs:
            if events & IN and self._paused and not events & HUP:
                return
            self._read_output(fd)
            self._check_drained()

    def _read_output(self, fd: int) -> int:
        """How many bytes there were; 0 when there is nothing more to read now."""
        try:
            data = os.read(fd, READ_SIZE)
        except BlockingIOError:
            return 0
        except OSError:  # EIO: the last slave of the pty was closed
            data = b""
        if not data:
            self._close_output(fd)
            return 0
        stream = self._outputs[fd]
        if self._log is not None:
            try:
                self._log.write(_NAMES[stream], data, time.time_ns())
            except OSError as e:  # a full disk must not stop the container; Docker drops the lines too
                log(f"log: {e}")
            if self._log.full:
                self.client_is_slow()
        for client in list(self.clients):
            client.send(stream, data)
        if len(data) == READ_SIZE and not self._trims:
            self._trims = True
            self.loop.call_later(_CALM_S, self._trim)
        return len(data)

    def _trim(self) -> None:
        self._trims = False
        malloc.trim()

    def _close_output(self, fd: int) -> None:
        if self._outputs.pop(fd, None) is None:
            return
        self.loop.remove(fd)
        if fd == self._stdin_fd:
            self._stdin_fd = -1
        os.close(fd)

    def _check_drained(self) -> None:
        if not self._outputs and self._drained is not None:
            drained, self._drained = self._drained, None
            drained()

    def _give_up(self) -> None:
        for fd in list(self._outputs):
            self._close_output(fd)
        self._check_drained()

    # ---- the clients' side ----

    def attach(self, client: Client) -> None:
        """Add a client."""
        self.clients.append(client)

    def replay_log(self, client: Client) -> None:
        """Send a client what was logged before."""
        if self._log is not None:
            for stream, data in self._log.replay():
                client.send(STDERR if stream == "stderr" else STDOUT, data)

    def client_ended(self, client: Client) -> None:
        """A client closed its fds."""
        if client in self.clients:
            self.clients.remove(client)
        self.client_has_room()

    def client_is_slow(self) -> None:
        """A client, or the log, has output waiting."""
        if not self._paused and self._has_backlog(PENDING_MAX):
            self._set_paused(True)

    def client_has_room(self) -> None:
        """A client's output, or the log's, has gone."""
        if self._paused and not self._has_backlog(PENDING_MAX // 4):
            self._set_paused(False)

    def _has_backlog(self, limit: int) -> bool:
        return (self._log is not None and self._log.full) or any(c.pending_bytes > limit for c in self.clients)

    def stdin_has_room(self) -> bool:
        """Whether clients should be read from."""
        return len(self._stdin_pending) < STDIN_PENDING_MAX

    def write_stdin(self, data: bytes) -> None:
        """Give the process input; before it runs, input waits."""
        if self._stdin_closing:
            return
        self._stdin_pending += data
        self._flush_stdin()

    def stdin_ended(self, client: Client) -> None:
        """A client will send no more: dockerd closes stdin for StdinOnce without a tty, else ends the attach."""
        if self._close_stdin and not self.tty:
            self.close_stdin()
        else:
            client.finish("closed")

    def close_stdin(self) -> None:
        """Close the process's stdin after what is queued; on a pty nothing can be closed."""
        self._stdin_closing = True
        if not self._stdin_pending and self._stdin_fd >= 0 and not self.tty:
            self._drop_stdin()

    def _flush_stdin(self) -> None:
        if self._stdin_fd < 0:
            return
        was_full = not self.stdin_has_room()
        try:
            while self._stdin_pending:
                del self._stdin_pending[: os.write(self._stdin_fd, self._stdin_pending)]
        except BlockingIOError:
            pass  # goes on in _stdin_ready
        except OSError:  # the process closed its stdin or is gone: drop the input, as a pipe's reader would
            self._stdin_pending.clear()
            if not self.tty:
                self._drop_stdin()
                self._stdin_closing = True
        self._watch_stdin()
        if not self._stdin_pending and self._stdin_closing and not self.tty:
            self._drop_stdin()
        if was_full and self.stdin_has_room():
            for client in list(self.clients):
                client.watch_stdin()

    def _watch_stdin(self) -> None:
        fd = self._stdin_fd
        if fd < 0:
            return
        events = OUT if self._stdin_pending else 0
        if fd in self._outputs:
            events |= 0 if self._paused else IN
        self.loop.modify(fd, events)

    def _stdin_ready(self, events: int) -> None:
        if events & HUP:
            self._drop_stdin()
            self._stdin_closing = True
        elif events & OUT:
            self._flush_stdin()

    def _drop_stdin(self) -> None:
        fd, self._stdin_fd = self._stdin_fd, -1
        self._stdin_pending.clear()
        if fd >= 0 and fd not in self._outputs:
            self.loop.remove(fd)
            os.close(fd)

    def _set_paused(self, paused: bool) -> None:
        self._paused = paused
        for fd in self._outputs:
            events = 0 if paused else IN
            if fd == self._stdin_fd and self._stdin_pending:
                events |= OUT
            self.loop.modify(fd, events)
