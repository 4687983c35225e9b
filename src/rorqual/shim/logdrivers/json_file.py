r"""json-file: a line of JSON for each line of output, rotated by size; Docker's own format.

    {"log":"hello\n","stream":"stdout","time":"2026-01-02T03:04:05.678901234Z"}

A line longer than 16 KiB is split into entries without the newline, as Docker splits it. Lines of one read share its
time.
Source: https://docs.docker.com/engine/logging/drivers/json-file/
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from json.encoder import encode_basestring  # the C function: 0.15 us a line

from rorqual.shim.logdrivers.lines import LINE_MAX, Assembler
from rorqual.shim.logdrivers.rotating import RotatingFile

__all__ = ["LINE_MAX", "JSONFile"]


class JSONFile:
    """Appends to `file`, which it takes over; each entry has the attributes `attrs`."""

    full = False
    on_room: Callable[[], None] | None = None

    def __init__(self, file: RotatingFile, attrs: Mapping[str, str]) -> None:
        self._file = file
        self._attrs = f',"attrs":{json.dumps(dict(attrs), separators=(",", ":"))}' if attrs else ""
        self._lines = Assembler()
        self._closed = False

    def write(self, stream: str, data: bytes, time_ns: int) -> None:
        """See LogDriver."""
        self._emit(stream, self._lines.feed(stream, data), time_ns)

    def _emit(self, stream: str, pieces: list[bytes], time_ns: int) -> None:
        if not pieces:
            return
        tail = f',"stream":"{stream}"{self._attrs},"time":"{rfc3339(time_ns)}"}}\n'
        texts = [encode_basestring(p.decode("utf-8", "replace")) for p in pieces]
        self._file.append(('{"log":' + (tail + '{"log":').join(texts) + tail).encode())

    def replay(self) -> Iterator[tuple[str, bytes]]:
        """See LogDriver."""
        for line in self._file.replay():
            entry = json.loads(line)
            yield entry["stream"], entry["log"].encode()

    def close(self) -> None:
        """See LogDriver."""
        if self._closed:
            return
        self._closed = True
        for stream, rest in self._lines.rest():
            self._emit(stream, [rest], time.time_ns())
        self._file.close()


def rfc3339(time_ns: int) -> str:
    """UTC with nine digits of a second, trailing zeros dropped, as Go's time.RFC3339Nano."""
    seconds, nanos = divmod(time_ns, 1_000_000_000)
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z"
