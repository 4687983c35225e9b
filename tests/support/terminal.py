"""A person at a terminal: runs a program on a pseudo-terminal of its own, types, reads, resizes the window."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from types import TracebackType

CTRL_C, CTRL_D, CTRL_P, CTRL_Q = "\x03", "\x04", "\x10", "\x11"


class Terminal:
    """The program's controlling terminal; killed when the block ends."""

    def __init__(
        self, argv: Sequence[str], env: dict[str, str] | None = None, rows: int = 24, columns: int = 80
    ) -> None:
        self._master, slave = pty.openpty()
        self._seen = b""
        self.resize(rows, columns)
        # setsid -c makes the slave the controlling terminal, so that Ctrl-C and SIGWINCH reach the program.
        self._process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *argv], stdin=slave, stdout=slave, stderr=slave, env=env, close_fds=True
        )
        os.close(slave)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            # The program's own group: with SIGHUP, as when the window is closed, then for good.
            with contextlib.suppress(OSError):
                os.close(self._master)
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGKILL)
                self._process.wait()
        else:
            with contextlib.suppress(OSError):
                os.close(self._master)

    def resize(self, rows: int, columns: int) -> None:
        """The window's new size; the kernel tells the foreground program by SIGWINCH."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def line(self, text: str) -> None:
        """A line and the Enter key."""
        self.type(text + "\r")

    def expect(self, pattern: str, timeout_s: float = 15) -> "re.Match[str]":
        """Read until the pattern matches what came since the last match; AssertionError with all of it otherwise."""
        deadline = time.monotonic() + timeout_s
        while True:
            text = self._seen.decode(errors="replace")
            if match := re.search(pattern, text):
                self._seen = text[match.end() :].encode()
                return match
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                raise AssertionError(
                    f"the terminal never showed {pattern!r}, but: {self._seen.decode(errors='replace')!r}"
                )

    def ends(self, timeout_s: float = 15) -> int:
        """The program's exit status, after everything it wrote was read."""
        deadline = time.monotonic() + timeout_s
        while self._process.poll() is None or select.select([self._master], [], [], 0)[0]:
            if not self._read(0.05) and self._process.poll() is not None:
                break
            if time.monotonic() > deadline:
                raise AssertionError(f"still running; the terminal shows: {self._seen.decode(errors='replace')!r}")
        return self._process.returncode or 0

    def _read(self, timeout_s: float) -> bool:
        if not select.select([self._master], [], [], timeout_s)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: the last program has closed the terminal
            return False
        self._seen += data
        return bool(data)
