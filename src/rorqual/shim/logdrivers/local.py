"""local: the engine's own log file, and the cache that makes `logs` work with drivers that send output away.

    1767323045678901234 o hello        19 digits of ns, the stream (o or e; O and E: the line goes on in the next entry)

Entries end with a newline, which is the line's own unless it goes on. The output's bytes are kept as they are: no JSON,
no replaced characters. 20 MiB a file, five files, compressed: Docker's defaults.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from rorqual.shim.logdrivers.lines import Assembler
from rorqual.shim.logdrivers.rotating import RotatingFile

_MARKS = {"stdout": (b"o", b"O"), "stderr": (b"e", b"E")}
_PREFIX = 22


class Local:
    """Appends to `file`, which it takes over."""

    full = False
    on_room: Callable[[], None] | None = None

    def __init__(self, file: RotatingFile) -> None:
        self._file = file
        self._lines = Assembler()
        self._closed = False

    def write(self, stream: str, data: bytes, time_ns: int) -> None:
        """See LogDriver."""
        self._emit(stream, self._lines.feed(stream, data), time_ns)

    def _emit(self, stream: str, pieces: list[bytes], time_ns: int) -> None:
        if not pieces:
            return
        whole, goes_on = (b"%019d %s " % (time_ns, mark) for mark in _MARKS[stream])
        entries = whole + whole.join(pieces)  # one pass in C, right when every piece is a whole line
        if entries.count(b"\n") != len(pieces):
            entries = b"".join(whole + p if p.endswith(b"\n") else goes_on + p + b"\n" for p in pieces)
        self._file.append(entries)

    def replay(self) -> Iterator[tuple[str, bytes]]:
        """See LogDriver."""
        for entry in self._file.replay():
            mark, text = entry[20:21], entry[_PREFIX:]
            yield ("stdout" if mark in b"oO" else "stderr"), text if mark in b"oe" else text[:-1]

    def close(self) -> None:
        """See LogDriver."""
        if self._closed:
            return
        self._closed = True
        for stream, rest in self._lines.rest():
            self._emit(stream, [rest], time.time_ns())
        self._file.close()
