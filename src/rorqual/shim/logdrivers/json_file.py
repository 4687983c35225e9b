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
from json.encoder import encode_basestring  # the C function: 0.3 us a line of 100 bytes

from rorqual.shim.logdrivers.linefile import LineFile
from rorqual.shim.logdrivers.lines import split
from rorqual.shim.logdrivers.rotating import RotatingFile

_ESCAPED = bytes(set(range(0x20)) - {0x0A}) + b'"\\'  # RFC 8259, section 7, but the newline


class JSONFile(LineFile):
    """Appends to `file`, which it takes over; each entry has the attributes `attrs`."""

    def __init__(self, file: RotatingFile, attrs: Mapping[str, str]) -> None:
        super().__init__(file)
        self._attrs = f',"attrs":{json.dumps(dict(attrs), separators=(",", ":"))}' if attrs else ""

    def _block(self, stream: str, block: bytes, time_ns: int) -> bytes:
        if not _is_plain(block):
            return self._entries(stream, split(block), time_ns)
        tail = self._tail(stream, time_ns)
        between = f'\\n"{tail}{{"log":"'.encode()
        return b'{"log":"' + block[:-1].replace(b"\n", between) + f'\\n"{tail}'.encode()

    def _entries(self, stream: str, pieces: list[bytes], time_ns: int) -> bytes:
        tail = self._tail(stream, time_ns)
        texts = [encode_basestring(p.decode("utf-8", "replace")) for p in pieces]
        return ('{"log":' + (tail + '{"log":').join(texts) + tail).encode()

    def _tail(self, stream: str, time_ns: int) -> str:
        return f',"stream":"{stream}"{self._attrs},"time":"{rfc3339(time_ns)}"}}\n'

    def replay(self) -> Iterator[tuple[str, bytes]]:
        """See LogDriver."""
        for line in self._file.replay():
            entry = json.loads(line)
            yield entry["stream"], entry["log"].encode()


def _is_plain(block: bytes) -> bool:
    """Whether nothing but the ends of its lines needs an escape, and it is UTF-8."""
    if len(block.translate(None, _ESCAPED)) != len(block):
        return False
    try:
        return block.isascii() or bool(block.decode())
    except UnicodeDecodeError:
        return False


def rfc3339(time_ns: int) -> str:
    """UTC with nine digits of a second, trailing zeros dropped, as Go's time.RFC3339Nano."""
    seconds, nanos = divmod(time_ns, 1_000_000_000)
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z"
