r"""json-file: a line of JSON for each line of output, rotated by size; Docker's own format.

    {"log":"hello\n","stream":"stdout","time":"2026-01-02T03:04:05.678901234Z"}

A line longer than 16 KiB is split into entries without the newline, as Docker splits it. Lines of one read share its
time.
Source: https://docs.docker.com/engine/logging/drivers/json-file/
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from json.encoder import encode_basestring  # the C function: 0.15 us a line

LINE_MAX = 16 * 1024


class JSONFile:
    """Appends to `path`; at max_size_bytes it becomes `path`.1 and so on, max_file files in all."""

    def __init__(self, path: str, *, max_size_bytes: int = -1, max_file: int = 1, attrs: Mapping[str, str]) -> None:
        self._path = path
        self._max_size = max_size_bytes
        self._max_file = max(1, max_file)
        self._attrs = f',"attrs":{json.dumps(dict(attrs), separators=(",", ":"))}' if attrs else ""
        self._partial = {"stdout": b"", "stderr": b""}
        self._fd = -1
        self._size = 0
        self._open()

    def _open(self) -> None:
        # A write that fails on a full disk is reported by the stream that made it; O_APPEND keeps entries whole.
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        self._size = os.fstat(self._fd).st_size

    def write(self, stream: str, data: bytes, time_ns: int) -> None:
        """See LogDriver."""
        data = self._partial[stream] + data
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        while len(rest) >= LINE_MAX:
            # Docker cuts at 16 KiB too; never inside a character when the text is UTF-8.
            cut = _utf8_cut(rest, LINE_MAX)
            if end:
                self._emit(stream, data[:end], time_ns)
                end = 0
            self._emit_pieces(stream, [rest[:cut]], time_ns)
            rest = rest[cut:]
        self._partial[stream] = rest
        if end:
            self._emit(stream, data[:end], time_ns)

    def _emit(self, stream: str, whole_lines: bytes, time_ns: int) -> None:
        pieces = whole_lines.splitlines(keepends=True) if b"\r" not in whole_lines else _split(whole_lines)
        if any(len(p) > LINE_MAX for p in pieces):
            pieces = [part for piece in pieces for part in _cut(piece)]
        self._emit_pieces(stream, pieces, time_ns)

    def _emit_pieces(self, stream: str, pieces: list[bytes], time_ns: int) -> None:
        tail = f',"stream":"{stream}"{self._attrs},"time":"{rfc3339(time_ns)}"}}\n'
        texts = [encode_basestring(p.decode("utf-8", "replace")) for p in pieces]
        self._append(('{"log":' + (tail + '{"log":').join(texts) + tail).encode())

    def _append(self, entries: bytes) -> None:
        if self._max_size > 0:
            for entry in entries.splitlines(keepends=True):
                if self._size and self._size + len(entry) > self._max_size:
                    self._rotate()
                self._write_all(entry)
        else:
            self._write_all(entries)

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            n = os.write(self._fd, view)
            self._size += n
            view = view[n:]

    def _rotate(self) -> None:
        os.close(self._fd)
        if self._max_file == 1:
            os.truncate(self._path, 0)
        else:
            for n in range(self._max_file - 1, 0, -1):
                older = f"{self._path}.{n}"
                newer = f"{self._path}.{n - 1}" if n > 1 else self._path
                try:
                    os.replace(newer, older)
                except FileNotFoundError:
                    continue  # fewer rotations than max_file so far
        self._open()

    def replay(self) -> Iterator[tuple[str, bytes]]:
        """See LogDriver."""
        for n in range(self._max_file - 1, -1, -1):
            try:
                with open(f"{self._path}.{n}" if n else self._path, "rb") as file:
                    for line in file:
                        entry = json.loads(line)
                        yield entry["stream"], entry["log"].encode()
            except FileNotFoundError:
                continue

    def close(self) -> None:
        """See LogDriver."""
        if self._fd < 0:
            return
        now = time.time_ns()
        for stream, rest in self._partial.items():
            if rest:
                self._emit_pieces(stream, [rest], now)
                self._partial[stream] = b""
        os.close(self._fd)
        self._fd = -1


def rfc3339(time_ns: int) -> str:
    """UTC with nine digits of a second, trailing zeros dropped, as Go's time.RFC3339Nano."""
    seconds, nanos = divmod(time_ns, 1_000_000_000)
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z"


def _split(data: bytes) -> list[bytes]:
    # bytes.splitlines would break at a lone \r too, which a terminal writes inside a line
    return [line + b"\n" for line in data[:-1].split(b"\n")]


def _cut(line: bytes) -> Iterator[bytes]:
    while len(line) > LINE_MAX:
        at = _utf8_cut(line, LINE_MAX)
        yield line[:at]
        line = line[at:]
    yield line


def _utf8_cut(data: bytes, at: int) -> int:
    for back in range(4):
        if at - back < len(data) and data[at - back] & 0xC0 != 0x80:
            return at - back
    return at
