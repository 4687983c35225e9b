"""Being in the foreground of a container's process: terminal, signals, exit status; or handing its terminal over.

Source: runc's docs/terminals.md (console sockets).
"""

import errno
import fcntl
import os
import select
import struct
from contextlib import suppress

from rorqual.errdefs import InvalidArgument, Unavailable
from rorqual.runc.errors import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    import socket
else:
    import _signal as signal
    import _socket as socket

_FORWARDED = tuple(
    s
    for s in signal.valid_signals()
    if s
    not in (
        signal.SIGKILL,
        signal.SIGSTOP,
        signal.SIGCHLD,
        signal.SIGURG,
        signal.SIGPIPE,
        signal.SIGWINCH,
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGTSTP,
    )
)


def check_terminal(terminal: bool, detach: bool, console_socket: str) -> None:
    """Raises: InvalidArgument in runc's words."""
    if detach and terminal and not console_socket:
        raise InvalidArgument("cannot allocate tty if runc will detach without setting console socket")
    if (not detach or not terminal) and console_socket:
        raise InvalidArgument("cannot use console socket if runc will not detach or allocate tty")


def send_fd(path: str, fd: int, name: str) -> None:
    """Send the terminal's master (or a pidfd) to whoever listens at `path`. Raises: Unavailable."""
    try:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            s.connect(path)
            s.sendmsg([name.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))])
        finally:
            s.close()
    except OSError as e:
        raise Unavailable(f"dial unix {path}: connect: {reason(e)}") from e


def passed_fds(preserved: int) -> tuple[int, tuple[str, ...]]:
    """How many fds from 3 on go to the process, $LISTEN_FDS and then `preserved`; what that adds to its environment.

    Source: sd_listen_fds(3). Raises: InvalidArgument of an fd that isn't open.
    """
    listening = 0
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS", "").isdigit():
        listening = int(os.environ["LISTEN_FDS"])
    count = listening + preserved
    for fd in range(3, 3 + count):
        try:
            os.set_inheritable(fd, True)
        except OSError as e:
            raise InvalidArgument(f"unable to stat preserved-fd {fd - 3} (of {count}): {reason(e)}") from e
    return count, (f"LISTEN_FDS={listening}", "LISTEN_PID=1") if listening else ()


class Foreground:
    """From before the container is made until its process has ended: no signal gets lost in between."""

    def __init__(self) -> None:
        # SIGCHLD too: it must be pending, not ignored, for the wait below
        self._waited = {*_FORWARDED, signal.SIGCHLD, signal.SIGWINCH}
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, self._waited)
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in self._waited:
            signal.signal(number, lambda *_: None)

    def wait(self, pid: int, master: int | None) -> int:
        """Copy the terminal, pass on signals, reap; the status as a shell has it (128 + signal)."""
        raw = _RawTerminal(master) if master is not None else None
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)
        try:
            return self._loop(pid, master, raw)
        finally:
            if raw is not None:
                raw.restore()

    def _loop(self, pid: int, master: int | None, raw: "_RawTerminal | None") -> int:
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        if master is not None:
            poll.register(master, select.POLLIN)
            poll.register(0, select.POLLIN)
        status: int | None = None
        while True:
            if status is None:
                status = _reap(pid)
            if status is not None:
                if master is not None:
                    _drain(master)
                return status
            for fd, _events in poll.poll():
                if fd == self._read:
                    self._forward(pid, raw)
                elif master is not None and not _copy(fd, 1 if fd == master else master):
                    poll.unregister(fd)

    def _forward(self, pid: int, raw: "_RawTerminal | None") -> None:
        with suppress(BlockingIOError):
            for number in os.read(self._read, 512):
                if number == signal.SIGWINCH:
                    if raw is not None:
                        raw.resize()
                elif number != signal.SIGCHLD:
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)


def _reap(pid: int) -> int | None:
    """Collect every child that ended (a subreaper gets strangers too); the status of `pid` if it was among them."""
    found = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if ended == 0:
            return found
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code


def _copy(source: int, target: int) -> bool:
    try:
        data = os.read(source, 65536)
    except OSError as e:
        if e.errno != errno.EIO:  # the slave is closed
            raise
        return False
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]
    return bool(data)


def _drain(master: int) -> None:
    os.set_blocking(master, False)
    with suppress(BlockingIOError):
        while _copy(master, 1):
            pass


class _RawTerminal:
    """This process's own terminal, if it has one, passes everything through."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._saved = None
        if os.isatty(0):
            import termios
            import tty

            self._saved = termios.tcgetattr(0)
            tty.setraw(0)
            self.resize()

    def resize(self) -> None:
        import termios

        with suppress(OSError):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def restore(self) -> None:
        if self._saved is not None:
            import termios

            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)
