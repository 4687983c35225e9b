"""Containers' logs as Compose shows them: each line behind its container's name, many containers at once."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable

from rorqual import errdefs
from rorqual.cli.command import Context
from rorqual.cli.starting import REDIAL_EVERY_S, REDIAL_FOR_S
from rorqual.cli.timestamps import to_timestamp
from rorqual.client import Client
from rorqual.client.demux import STDERR, Demultiplexer
from rorqual.client.errors import ConnectionFailed, ProtocolError
from rorqual.client.http1 import Response
from rorqual.compose.observe import Seen

_COLORS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_MAX_LINE_BYTES = 1 << 20


class Printer:
    """Writes whole lines, from any thread. `plain`: without names; `color`: names in colours."""

    def __init__(self, *, plain: bool = False, color: bool = False) -> None:
        self._plain = plain
        self._color = color
        self._lock = threading.Lock()
        self._width = 0
        self._colors: dict[str, int] = {}

    def know(self, names: Iterable[str]) -> None:
        """Names that will come, so that all are aligned from the first line on."""
        for name in names:
            self._width = max(self._width, len(name))
            self._colors.setdefault(name, _COLORS[len(self._colors) % len(_COLORS)])

    def line(self, name: str, data: bytes, *, stderr: bool = False) -> None:
        """One line without its end."""
        prefix = b"" if self._plain else self._prefix(name)
        out = sys.stderr.buffer if stderr else sys.stdout.buffer
        with self._lock:
            out.write(prefix + data + b"\n")
            out.flush()

    def _prefix(self, name: str) -> bytes:
        self.know([name])
        text = f"{name.ljust(self._width)}  | "
        return (f"\x1b[{self._colors[name]}m{text}\x1b[0m" if self._color else text).encode()

    def say(self, text: str) -> None:
        """A line of our own."""
        with self._lock:
            sys.stdout.flush()
            sys.stderr.flush()
            sys.stdout.write(text + "\n")
            sys.stdout.flush()


def colored(context: Context, *, no_color: bool) -> bool:
    from rorqual.cli.commands.compose import loading

    ansi = loading.ansi_mode(context)
    if no_color or ansi == "never" or os.environ.get("NO_COLOR"):
        return False
    return ansi == "always" or sys.stdout.isatty()


def copy(
    client: Client,
    seen: Seen,
    name: str,
    printer: Printer,
    *,
    follow: bool,
    since: str = "",
    until: str = "",
    tail: str = "",
    timestamps: bool = False,
    apart: bool = False,
) -> None:
    """A container's log to its end, or with `follow` until it stops. Raises: as `Client.request`.

    `apart`: what was written to stderr goes to stderr.

    Followed over a restart of the engine: each line's time tells which was the last.
    """
    reader = _Reader(name, printer, timestamps=timestamps, apart=apart)
    gone_at = 0.0
    while True:
        try:
            tty = client.containers.inspect(seen.id)["Config"]["Tty"]
            response = client.containers.logs(
                seen.id,
                follow=follow,
                since=to_timestamp("since", reader.last) if reader.last else since,
                until=until,
                tail=tail,
                timestamps=True,
            )
            gone_at = 0.0
            reader.read(response, tty=tty)
            return
        except errdefs.NotImplementedHere as e:  # a log driver that cannot be read
            printer.line(name, str(e).encode(), stderr=True)
            return
        except BrokenPipeError:
            raise  # of our own output: nobody reads it any more
        except (ConnectionFailed, ProtocolError, OSError):
            gone_at = gone_at or time.monotonic()
            if not follow or time.monotonic() - gone_at > REDIAL_FOR_S:
                raise
            tail = "" if reader.last else tail
            time.sleep(REDIAL_EVERY_S)


class _Stream:
    """A stream of a log: lines of entries, each of which begins with its time, a long line being several."""

    __slots__ = ("head", "line", "stamp")

    def __init__(self) -> None:
        self.head: bytes | None = None  # of an entry whose time is not whole yet
        self.line = b""
        self.stamp = b""  # of the line's first entry

    def add(self, data: bytes, *, begins: bool) -> list[tuple[bytes, bytes]]:
        """(time, text) of the lines that `data` ends; `begins`: it is the begin of an entry."""
        if begins:
            self.head = b""
        if self.head is not None:
            stamp, space, data = (self.head + data).partition(b" ")
            if not space:
                self.head = stamp
                return []
            self.head = None
            if not self.line:
                self.stamp = stamp
        *lines, self.line = (self.line + data).split(b"\n")
        if len(self.line) > _MAX_LINE_BYTES:
            lines, self.line = [*lines, self.line], b""
        return [(self.stamp, line) for line in lines]


class _Reader:
    """Lines of a log with their times, each shown once. `last` is the time of the last one."""

    def __init__(self, name: str, printer: Printer, *, timestamps: bool, apart: bool) -> None:
        self._name = name
        self._printer = printer
        self._timestamps = timestamps
        self._apart = apart
        self.last = ""

    def read(self, response: Response, *, tty: bool) -> None:
        """To its end."""
        again = self.last  # what is sent once more
        streams = {False: _Stream(), True: _Stream()}
        demux = Demultiplexer()
        begins = True
        for piece in response.chunks():
            if tty:  # no frames: entries are lines
                for line in piece.splitlines(keepends=True):
                    for stamp, text in streams[False].add(line, begins=begins):
                        again = self._line(stamp, text.removesuffix(b"\r"), False, again)
                    begins = line.endswith(b"\n")
                continue
            begins = not demux.midway
            for stream, payload in demux.feed(memoryview(piece)):
                error = stream == STDERR
                for stamp, text in streams[error].add(bytes(payload), begins=begins):
                    again = self._line(stamp, text, error, again)
                begins = True
        for error, rest in streams.items():
            if rest.line:
                again = self._line(rest.stamp, rest.line, error, again)

    def _line(self, stamp: bytes, text: bytes, error: bool, again: str) -> str:
        when = stamp.decode("ascii", "replace")
        if again and when <= again:
            return again
        self.last = when
        shown = stamp + b" " + text if self._timestamps else text
        self._printer.line(self._name, shown, stderr=error and self._apart)
        return ""
