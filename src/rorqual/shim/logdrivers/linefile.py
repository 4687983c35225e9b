"""What the drivers that keep lines in a rotated file share; they say what an entry looks like."""

from __future__ import annotations

import time
from collections.abc import Callable

from rorqual.shim.logdrivers.lines import LINE_MAX, Assembler
from rorqual.shim.logdrivers.rotating import RotatingFile

# Bytes of output that are made entries at once. Those of zeros are six times as long: below malloc's M_MMAP_THRESHOLD
# (128 KiB), above which each would be a new mapping, and its page faults three quarters of the whole cost.
_STEP = LINE_MAX


class LineFile:
    """A LogDriver but for `replay`. Appends to `file`, which it takes over; it is never full."""

    full = False
    on_room: Callable[[], None] | None = None

    def __init__(self, file: RotatingFile) -> None:
        self._file = file
        self._lines = Assembler()
        self._closed = False

    def write(self, stream: str, data: bytes, time_ns: int) -> None:
        """See LogDriver."""
        for at in range(0, len(data), _STEP):
            part = data[at : at + _STEP]
            if block := self._lines.block(stream, part):
                self._file.append(self._block(stream, block, time_ns))
            elif pieces := self._lines.feed(stream, part):
                self._file.append(self._entries(stream, pieces, time_ns))

    def _block(self, stream: str, block: bytes, time_ns: int) -> bytes:
        """The entries of whole lines that stand together: what most output is, so without a step a line."""
        raise NotImplementedError

    def _entries(self, stream: str, pieces: list[bytes], time_ns: int) -> bytes:
        """The entries of `pieces`, at least one: lines with their ends, or the parts of one too long."""
        raise NotImplementedError

    def close(self) -> None:
        """See LogDriver."""
        if self._closed:
            return
        self._closed = True
        for stream, rest in self._lines.rest():
            self._file.append(self._entries(stream, [rest], time.time_ns()))
        self._file.close()
