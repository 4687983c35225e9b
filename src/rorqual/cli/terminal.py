"""The user's terminal: raw mode, size, detach keys.

Raw mode is always restored by the one who set it (`RawMode` is a context manager); a signal that ends the process
while raw goes through Python's handlers first (see streams.Signals).
"""

from __future__ import annotations

import os

from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

DEFAULT_DETACH_KEYS = b"\x10\x11"  # Ctrl-P, Ctrl-Q


def size(fd: int = 1) -> tuple[int, int]:
    """(height, width) of the terminal; (0, 0) when `fd` is none."""
    try:
        columns, lines = os.get_terminal_size(fd)
    except OSError:
        return 0, 0
    return lines, columns


class RawMode:
    """Raw mode of the terminal `fd` for as long as the context lasts; nothing when `fd` is no terminal.

    Output processing is left on (as Docker's client leaves it on for its output side is off: a container's terminal
    already sends CR LF, so both render alike).
    """

    __slots__ = ("_fd", "_saved")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved: list[Any] | None = None

    def __enter__(self) -> RawMode:
        import termios

        if not os.isatty(self._fd):
            return self
        saved = termios.tcgetattr(self._fd)
        raw = list(saved)
        raw[0] &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        raw[1] &= ~termios.OPOST
        raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        raw[2] = (raw[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
        raw[6] = list(saved[6])
        raw[6][termios.VMIN] = 1
        raw[6][termios.VTIME] = 0
        termios.tcsetattr(self._fd, termios.TCSANOW, raw)
        self._saved = saved
        return self

    def restore(self) -> None:
        """Put the terminal back; a second call does nothing."""
        import termios

        saved, self._saved = self._saved, None
        if saved is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, saved)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()


def parse_detach_keys(text: str) -> bytes:
    """The bytes of "ctrl-p,ctrl-q", "a,ctrl-@"; the default for "".

    Raises: CommandError with Docker's text.
    """
    if not text:
        return DEFAULT_DETACH_KEYS
    out = bytearray()
    for key in text.split(","):
        if len(key) == 1 and key.isascii():
            out += key.encode()
        elif key.startswith("ctrl-") and len(key) == 6 and (key[5].islower() or key[5] in "@[\\]^_"):
            out.append(ord(key[5].upper()) - 64)
        elif key == "DEL":
            out.append(127)
        else:
            raise CommandError(f"invalid detach keys ({text}): Unknown character: '{key}'")
    return bytes(out)


class DetachFilter:
    """Finds the detach sequence in what is typed, across reads; holds back what may be its beginning."""

    __slots__ = ("_keys", "_matched")

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(bytes to pass on, whether the sequence was completed)."""
        keys = self._keys
        if not keys:
            return data, False
        if not self._matched and keys[0] not in data:
            return data, False
        out = bytearray()
        for byte in data:
            if byte == keys[self._matched]:
                self._matched += 1
                if self._matched == len(keys):
                    self._matched = 0
                    return bytes(out), True
                continue
            if self._matched:
                out += keys[: self._matched]
                self._matched = 0
                if byte == keys[0]:
                    self._matched = 1
                    if len(keys) == 1:
                        return bytes(out), True
                    continue
            out.append(byte)
        return bytes(out), False


def check_tty(attach_stdin: bool, tty: bool, fd: int = 0) -> None:
    """Raises: CommandError when a terminal is asked for on a stdin that is none."""
    if attach_stdin and tty and not os.isatty(fd):
        raise CommandError("the input device is not a TTY")
