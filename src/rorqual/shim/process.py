"""A process of the container as the shim keeps it: init (exec_id "") or an exec; and how its stdio is set up."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable

from rorqual.errdefs import InvalidArgument
from rorqual.rpc import taskapi
from rorqual.shim.logdrivers import LogDriver
from rorqual.shim.loop import Loop
from rorqual.shim.stdio import STDERR, STDOUT, Client, Stdio

SHIM_URI = "shim:"  # the stream is the shim's: log and clients of the stream socket


class Process:
    """`spec` is an exec's runtime-spec process, JSON. Times in nanoseconds since 1970; 0 is not yet."""

    __slots__ = (
        "drained",
        "exec_id",
        "exit_status",
        "exited_at_ns",
        "output_holders",
        "pid",
        "spec",
        "status",
        "stderr",
        "stdin",
        "stdin_holder",
        "stdio",
        "stdout",
        "terminal",
        "waiters",
    )

    def __init__(self, exec_id: str, terminal: bool, stdin: str, stdout: str, stderr: str, spec: bytes = b"") -> None:
        self.exec_id = exec_id
        self.terminal = terminal
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self.spec = spec
        self.stdio: Stdio | None = None
        self.pid = 0
        self.status = taskapi.CREATED
        self.exit_status = 0
        self.exited_at_ns = 0
        self.drained = False
        self.stdin_holder = -1  # keeps a FIFO's reader from seeing EOF before CloseIO
        self.output_holders: list[int] = []  # keep a FIFO's writer from SIGPIPE when its reader dies
        self.waiters: list[Callable[[taskapi.WaitResponse], None]] = []

    @property
    def running(self) -> bool:
        """Started and not ended."""
        return self.status in (taskapi.RUNNING, taskapi.PAUSED)

    def exited(self, wait_status: int) -> None:
        """Record the end; waiters are answered, then clients closed, once the last output was read."""
        code = os.waitstatus_to_exitcode(wait_status)
        self.exit_status = code if code >= 0 else 128 - code
        self.exited_at_ns = time.time_ns()
        self.status = taskapi.STOPPED

        def drained() -> None:
            self.drained = True
            for waiter in self.waiters:
                waiter(self.wait_response())
            self.waiters.clear()
            if self.stdio is not None:
                self.stdio.close()
            self._release_holders()

        if self.stdio is None:
            drained()
        else:
            self.stdio.process_exited(drained)

    def wait(self, reply: Callable[[taskapi.WaitResponse], None]) -> None:
        """Answer now or when the process has ended and its output was read."""
        if self.drained:
            reply(self.wait_response())
        else:
            self.waiters.append(reply)

    def close_stdin(self) -> None:
        """Let the process see the end of its stdin."""
        if self.stdio is not None:
            self.stdio.close_stdin()
        if self.stdin_holder >= 0:
            os.close(self.stdin_holder)
            self.stdin_holder = -1

    def _release_holders(self) -> None:
        self.close_stdin()
        for fd in self.output_holders:
            os.close(fd)
        self.output_holders.clear()

    def wait_response(self) -> taskapi.WaitResponse:
        """How it ended."""
        return taskapi.WaitResponse(self.exit_status, taskapi.Timestamp.from_ns(self.exited_at_ns))

    def open_hub(self, loop: Loop, log_driver: LogDriver | None = None, *, close_stdin: bool) -> None:
        """Make its hub, where one is needed and not there yet: clients attach to an exec before its start."""
        if self.stdio is None and (self.owns_streams() or self.terminal):
            self.stdio = Stdio(loop, log_driver=log_driver, tty=self.terminal, close_stdin=close_stdin)

    def owns_streams(self) -> bool:
        """Whether the shim keeps its streams (rorquald), not FIFOs of a containerd client."""
        return SHIM_URI in (self.stdin, self.stdout, self.stderr)


class ChildStdio:
    """The process's ends of its streams, to be handed to the runtime and closed here after it has started.

    With a terminal there are none: the runtime returns the pty's master, given to `console`.
    """

    def __init__(self, loop: Loop, process: Process, log_driver: LogDriver | None, *, stdin: bool, close_stdin: bool):
        self._process = process
        self._loop = loop
        self._fds: list[int] = []
        self._ends: list[Callable[[], None]] = []
        process.open_hub(loop, log_driver, close_stdin=close_stdin)
        try:
            if not process.terminal:
                self._fds.append(self._stdin(stdin))
                self._fds.append(self._output(process.stdout, STDOUT))
                self._fds.append(self._output(process.stderr, STDERR))
        except BaseException:
            self.close()
            raise

    @property
    def fds(self) -> tuple[int, int, int] | None:
        """(stdin, stdout, stderr), or None with a terminal."""
        return (self._fds[0], self._fds[1], self._fds[2]) if self._fds else None

    def started(self, console: int | None) -> None:
        """The process has its ends: close ours of them and begin to read. Takes the console over."""
        stdio = self._process.stdio
        if console is not None:
            assert stdio is not None
            stdio.add_output(console, STDOUT)
            stdio.set_stdin(console)
            self._attach_fifos(stdio)
        for begin in self._ends:
            begin()
        self._ends.clear()
        self.close()

    def close(self) -> None:
        """Close the process's ends."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def _stdin(self, wanted: bool) -> int:
        uri = self._process.stdin
        if uri == SHIM_URI and wanted:
            read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
            stdio = self._process.stdio
            assert stdio is not None
            self._ends.append(lambda: stdio.set_stdin(write_fd))
            return read_fd
        if uri in ("", SHIM_URI):
            return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        fd = _open_fifo(uri, os.O_RDONLY)
        self._process.stdin_holder = os.open(_fifo_path(uri), os.O_WRONLY | os.O_CLOEXEC)
        return fd

    def _output(self, uri: str, stream: int) -> int:
        if uri == SHIM_URI:
            read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
            stdio = self._process.stdio
            assert stdio is not None
            self._ends.append(lambda: stdio.add_output(read_fd, stream))
            return write_fd
        if not uri:
            return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        if uri.startswith("file://"):
            return os.open(uri[7:], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        fd = _open_fifo(uri, os.O_WRONLY)
        self._process.output_holders.append(os.open(_fifo_path(uri), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        return fd

    def _attach_fifos(self, stdio: Stdio) -> None:
        """With a terminal, copy between the pty and the FIFOs of a containerd client."""
        process = self._process
        write_fd = _open_fifo(process.stdout, os.O_WRONLY) if process.stdout not in ("", SHIM_URI) else -1
        if write_fd < 0:
            return
        read_fd = _open_fifo(process.stdin, os.O_RDONLY) if process.stdin not in ("", SHIM_URI) else -1
        stdio.attach(Client(stdio, read_fd, write_fd, streams=frozenset((STDOUT,)), stdin=read_fd >= 0, mux=False))


def _fifo_path(uri: str) -> str:
    path = uri.removeprefix("fifo://")
    if not path.startswith("/") or not stat.S_ISFIFO(os.stat(path).st_mode):
        raise InvalidArgument(f"stdio {uri!r} is no FIFO")
    return path


def _open_fifo(uri: str, flags: int) -> int:
    """One end of a FIFO, without waiting for the other: opened while an fd that is both is there."""
    path = _fifo_path(uri)
    both = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    finally:
        os.close(both)
