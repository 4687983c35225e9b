"""The durable journal of events, for `events --since`: text files, appended to at once, the oldest dropped.

    <root>/events/<time of the first event, ns>.jsonl        one line an event: 19 digits of ns, a space, JSON

An append is one write(2), some 10 us in the event loop: what was published is there after a SIGKILL at any moment,
and a client that reads slowly is served from here instead of from memory. Power loss may cost the last seconds.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

_SEGMENT_BYTES = 4 << 20
_SEGMENTS = 16  # 64 MiB, some 150,000 events
_STAMP = 20  # 19 digits of ns (until the year 2286) and a space
_BLOCK = 256 * 1024


class Journal:
    """Events by time, which must never go back. `append` raises OSError when the disk is full."""

    def __init__(self, directory: Path, *, segment_bytes: int = _SEGMENT_BYTES, segments: int = _SEGMENTS) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._segments = segments
        self._starts: list[int] = []  # of the segments, ascending
        self._fd = -1
        self._size = 0

    def open(self) -> None:
        """Find what is there, and end a line that a power cut tore."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = (p.name for p in self._directory.iterdir())
        self._starts = sorted(int(stem) for name in names if (stem := name.removesuffix(".jsonl")).isdigit())
        if self._starts:
            self._open_segment(self._starts[-1])
            if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":
                self._size += os.write(self._fd, b"\n")

    def close(self) -> None:
        """Bring it to the disk and close; a second call does nothing."""
        if self._fd >= 0:
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1

    def append(self, time_ns: int, body: bytes) -> None:
        """Add one event, a JSON document without line ends."""
        if self._fd < 0 or self._size >= self._segment_bytes:
            self._rotate(time_ns)
        line = b"%019d %s\n" % (time_ns, body)
        written = os.write(self._fd, line)
        self._size += written
        if written < len(line):  # a full disk took a part: what comes next must not be glued to it
            os.ftruncate(self._fd, self._size - written)
            self._size -= written
            raise OSError(28, "no space left on device", str(self._path(self._starts[-1])))

    def _rotate(self, time_ns: int) -> None:
        self.close()
        self._open_segment(time_ns)
        self._starts.append(time_ns)
        while len(self._starts) > self._segments:
            self._path(self._starts[0]).unlink(missing_ok=True)
            del self._starts[0]

    def _open_segment(self, start_ns: int) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(self._path(start_ns), flags, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _path(self, start_ns: int) -> Path:
        return self._directory / f"{start_ns:019d}.jsonl"

    def after(self, time_ns: int, limit: int) -> list[bytes]:
        """The bodies of at most `limit` events after time_ns, the oldest first. Reads files: call it in a thread."""
        found: list[bytes] = []
        starts = list(self._starts)
        for start in starts[max(0, bisect_right(starts, time_ns) - 1) :]:
            for stamp, body in self._lines(start, time_ns):
                if stamp > time_ns:
                    found.append(body)
                    if len(found) == limit:
                        return found
        return found

    def last(self, count: int) -> list[bytes]:
        """The bodies of the newest events, at most about `count`, the oldest first."""
        found: list[bytes] = []
        for start in reversed(self._starts):
            found = [body for _, body in self._lines(start, 0)] + found
            if len(found) >= count:
                break
        return found[-count:]

    def _lines(self, start_ns: int, after_ns: int) -> Iterator[tuple[int, bytes]]:
        """A segment's events, from shortly before after_ns on."""
        try:
            fd = os.open(self._path(start_ns), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # dropped meanwhile
        try:
            os.lseek(fd, self._seek(fd, after_ns), os.SEEK_SET)
            rest = b""
            while block := os.read(fd, _BLOCK):
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    stamp = _stamp(line)
                    if stamp is not None:
                        yield stamp, line[_STAMP:]
        finally:
            os.close(fd)

    def _seek(self, fd: int, after_ns: int) -> int:
        """An offset of a line's start, at most a block before the first event after after_ns."""
        low, high = 0, os.fstat(fd).st_size
        while high - low > _BLOCK:
            middle = (low + high) // 2
            block = os.pread(fd, 64 * 1024, middle)
            begin = block.find(b"\n") + 1
            stamp = _stamp(block[begin : begin + _STAMP]) if begin else None
            if stamp is not None and stamp <= after_ns:
                low = middle + begin
            else:
                high = middle
        return low


def _stamp(line: bytes) -> int | None:
    """The time of a line; None for a torn one."""
    digits = line[: _STAMP - 1]
    return int(digits) if len(line) >= _STAMP and digits.isdigit() else None
