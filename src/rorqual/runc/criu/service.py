"""`criu swrk`: one process for one request. It tells of what it is about to do, and goes on when it is told to."""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress

from rorqual import errdefs
from rorqual.linux import process
from rorqual.runc.criu import wire
from rorqual.runc.criu.wire import Answer
from rorqual.runc.errors import reason
from rorqual.runc.process import child, parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    import socket
    from collections.abc import Callable, Sequence
    from typing import NoReturn, Self
else:
    import _signal as signal
    import _socket as socket

MINIMUM = 30000  # the first that tells its version
_PACKET_MAX = 65536
_SOCKET_FD = 3


def find() -> str:
    """The path of the program. Raises: NotImplementedHere in runc's words."""
    if path := in_path("criu"):
        return path
    raise errdefs.NotImplementedHere('CRIU version check failed: exec: "criu": executable file not found in $PATH')


def in_path(name: str) -> str:
    """Where $PATH has the program; "" where it has not."""
    for directory in os.environ.get("PATH", os.defpath).split(":"):
        path = f"{directory or '.'}/{name}"
        if os.access(path, os.X_OK):
            return path
    return ""


class Service:
    """The worker: for one `with`, at whose end it is gone. Its children, the restored processes, stay.

    `join_fds`: files to write `0` to, through which it puts itself into control groups; those of what it restores.
    `inherited`: fds that it has from 4 on.
    Raises: NotImplementedHere without CRIU, Unavailable when it cannot be started.
    """

    def __init__(
        self,
        *,
        stdio: child.Stdio | None = None,
        join_fds: Sequence[int] = (),
        inherited: Sequence[int] = (),
    ) -> None:
        path = find()
        self._ended = False
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        read, write = os.pipe2(os.O_CLOEXEC)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self.pid = process.clone(0)
            if self.pid == 0:
                os.close(read)
                _run(write, lambda: _become(path, (theirs.fileno(), *inherited), write, stdio, join_fds))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            theirs.close()
            os.close(write)
        failure = os.read(read, 4096)  # nothing, once it is CRIU
        os.close(read)
        if failure:
            self.__exit__()
            raise errdefs.Unavailable(f"criu cannot be started: {failure.decode(errors='replace')}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        if not self._ended:
            parent.reap(self.pid)

    def ask(self, request: bytes, notify: Callable[[Answer, int | None], None] | None = None) -> Answer:
        """The answer that is no notification. `notify` gets each notification and the fd that came with it, its own to
        close; what it raises ends the worker, which undoes what it did.

        Raises: Unavailable with what CRIU says, and whatever `notify` does.
        """
        self._socket.sendall(request)
        while True:
            received, fd = self._receive()
            try:
                if not received.success:
                    name = wire.NAMES.get(received.type, str(received.type))
                    said = f": {received.message}" if received.message else ""
                    raise errdefs.Unavailable(f"criu failed: type {name} errno {received.errno}{said}")
                if received.type != wire.NOTIFY:
                    return received
                if notify is not None:
                    notify(received, fd)
                    fd = None
                self._socket.sendall(wire.notified(wire.NOTIFY))
            finally:
                if fd is not None:
                    os.close(fd)

    def _receive(self) -> tuple[Answer, int | None]:
        data, ancillary, _, _ = self._socket.recvmsg(_PACKET_MAX, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        if not data:
            raise errdefs.Unavailable("criu failed: it ended without an answer")
        fd = None
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                (fd,) = struct.unpack("i", content[:4])
        return wire.answer(data), fd

    def finish(self) -> None:
        """Let it end by itself. Raises: Unavailable when it fails now."""
        self._socket.close()
        self._ended = True
        status = 0
        with suppress(ChildProcessError):  # the caller collects all its children
            status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if status != 0:
            raise errdefs.Unavailable(f"criu failed: exit status {status}")


def _run(write: int, action: Callable[[], NoReturn]) -> NoReturn:
    """In the child: a failure is told through the pipe, which CRIU does not have."""
    try:
        action()
    except OSError as e:
        where = f" {os.fsdecode(e.filename)}" if e.filename else ""
        os.write(write, os.fsencode(reason(e) + where))
    except BaseException as e:
        os.write(write, os.fsencode(f"{type(e).__name__}: {e}"))
    finally:
        os._exit(127)


def _become(
    path: str,
    fds: Sequence[int],
    write: int,
    stdio: child.Stdio | None,
    join_fds: Sequence[int],
) -> NoReturn:
    """The fds are moved out of the way first, then to where CRIU is told that they are: from 3 on."""
    child.join_groups(list(join_fds))
    if stdio is not None:
        child.place(stdio)
    low = _SOCKET_FD + len(fds)
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, low) for fd in (*fds, write)]
    for number, fd in enumerate(high[:-1], _SOCKET_FD):
        os.dup2(fd, number)
    process.cloexec_from(low)
    for number in range(1, signal.NSIG):
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execve(path, ["criu", "swrk", str(_SOCKET_FD)], os.environ)


def version() -> int:
    """Of the program: 31701 for 3.17.1. Raises: NotImplementedHere where it is missing or too old to tell."""
    with Service() as service:
        try:
            found = service.ask(wire.request(wire.VERSION)).version
        except errdefs.Unavailable as e:
            raise errdefs.NotImplementedHere(f"CRIU version check failed: {e}") from e
    if found < MINIMUM:
        raise errdefs.NotImplementedHere(f"CRIU version {found} must be {MINIMUM} or higher")
    return found


def require(feature: int, name: str) -> None:
    """Raises: NotImplementedHere when CRIU, or this kernel with it, lacks the feature."""
    with Service() as service:
        found = service.ask(wire.request(wire.FEATURE_CHECK, features=(feature,))).features
    if feature not in found:
        raise errdefs.NotImplementedHere(f"CRIU is missing features: [{name}]")
