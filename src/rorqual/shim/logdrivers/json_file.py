r"""json-file: a line of JSON for each line of output, rotated by size; Docker's own format.

    {"log":"hello\n","stream":"stdout","time":"2026-01-02T03:04:05.678901234Z"}

A line longer than 16 KiB is split into entries without the newline, as Docker splits it. Lines of one read share its
time.
Source: https://docs.docker.com/engine/logging/drivers/json-file/
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from json.encoder import encode_basestring  # the C function: 0.15 us a line

from rorqual.shim.logdrivers.linefile import LineFile
from rorqual.shim.logdrivers.rotating import RotatingFile


class JSONFile(LineFile):
    """Appends to `file`, which it takes over; each entry has the attributes `attrs`."""

    def __init__(self, file: RotatingFile, attrs: Mapping[str, str]) -> None:
        super().__init__(file)
        self._attrs = f',"attrs":{json.dumps(dict(attrs), separators=(",", ":"))}' if attrs else ""

    def _entries(self, stream: str, pieces: list[bytes], time_ns: int) -> bytes:
        tail = f',"stream":"{stream}"{self._attrs},"time":"{rfc3339(time_ns)}"}}\n'
        texts = [encode_basestring(p.decode("utf-8", "replace")) for p in pieces]
        return ('{"log":' + (tail + '{"log":').join(texts) + tail).encode()

    def replay(self) -> Iterator[tuple[str, bytes]]:
        """See LogDriver."""
        for line in self._file.replay():
            entry = json.loads(line)
            yield entry["stream"], entry["log"].encode()


def rfc3339(time_ns: int) -> str:
    """UTC with nine digits of a second, trailing zeros dropped, as Go's time.RFC3339Nano."""
    seconds, nanos = divmod(time_ns, 1_000_000_000)
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z"
