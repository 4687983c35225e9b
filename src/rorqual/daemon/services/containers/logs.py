"""Logs: read from the log file, its rotated files first, and followed by inotify. The shim writes; this only reads.

A file is read in blocks in a thread; what leaves here is encoded for the client already: raw on a terminal's container,
else with the 8-byte frame header. Source: Engine API 1.56, ContainerLogs and ContainerAttach ("Stream format").
"""

from __future__ import annotations

import asyncio
import ctypes
import gzip
import json
import os
import shutil
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass

from rorqual.daemon.services import clock
from rorqual.daemon.services.logconfig import LOCAL, Source

_BLOCK = 256 * 1024
_HEADER = struct.Struct(">BxxxL")
_STREAMS = {"stdout": 1, "stderr": 2}
_IN_MODIFY, _IN_MOVE_SELF, _IN_DELETE_SELF = 0x2, 0x800, 0x400
_IN_NONBLOCK, _IN_CLOEXEC = 0o4000, 0o2000000
_IDLE_S = 1.0
_LOCAL_STREAMS = {b"o": "stdout", b"O": "stdout", b"e": "stderr", b"E": "stderr"}
_LOCAL_PREFIX = 22  # 19 digits of ns, the mark of the stream, spaces


@dataclass(frozen=True, slots=True)
class LogRequest:
    """What of the log is wanted. Times in ns; `tail` lines from the end, None for all."""

    stdout: bool
    stderr: bool
    follow: bool = False
    since_ns: int = 0
    until_ns: int = 0
    tail: int | None = None
    timestamps: bool = False
    details: bool = False


class LogReader:
    """Reads one container's log."""

    def __init__(self, source: Source, request: LogRequest, *, mux: bool) -> None:
        self._path = source.path
        self._attrs = source.attrs
        self._render = self._render_local if source.driver == LOCAL else self._render_json
        self._stream_of = _local_stream if source.driver == LOCAL else _json_stream
        self._request = request
        self._mux = mux
        self._wanted = {name for name, on in (("stdout", request.stdout), ("stderr", request.stderr)) if on}
        self._past_until = False

    async def read(self, running: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Pieces of the log, until its end; with follow until the container has ended and all was read."""
        request = self._request
        if request.tail != 0:
            iterator = self._tail() if request.tail is not None else self._all()
            while (piece := await asyncio.to_thread(next, iterator, None)) is not None:
                if piece:
                    yield piece
        else:
            self._position = await asyncio.to_thread(self._end)
        if request.follow and not self._past_until:
            async for piece in self._follow(running):
                yield piece

    # ---- what is there ----

    _position: tuple[int, int] = (0, 0)  # inode and offset up to which was read

    def _files(self) -> list[str]:
        """The log's files, the oldest first."""
        files: list[str] = []
        number = 1
        while found := [p for p in (f"{self._path}.{number}", f"{self._path}.{number}.gz") if os.path.exists(p)]:
            files.append(found[0])
            number += 1
        return [*reversed(files), self._path]

    def _end(self) -> tuple[int, int]:
        try:
            info = os.stat(self._path)
        except FileNotFoundError:
            return 0, 0
        return info.st_ino, info.st_size

    def _all(self) -> Iterator[bytes]:
        for path in self._files():
            try:
                fd = _open_file(path)
            except FileNotFoundError:
                continue
            try:
                rest = b""
                offset = 0
                while block := os.read(fd, _BLOCK):
                    offset += len(block)
                    whole, newline, tail = (rest + block).rpartition(b"\n")
                    rest = tail
                    if newline:
                        yield self._render(whole.split(b"\n"))
                self._position = (os.fstat(fd).st_ino, offset - len(rest))
            finally:
                os.close(fd)

    def _tail(self) -> Iterator[bytes]:
        """The last lines: read backwards in blocks until there are enough."""
        wanted = self._request.tail or 0
        lines: deque[bytes] = deque()
        for path in reversed(self._files()):
            try:
                fd = _open_file(path)
            except FileNotFoundError:
                continue
            try:
                size = os.fstat(fd).st_size
                whole_end = self._last_newline(fd, size)
                if path == self._path:
                    self._position = (os.fstat(fd).st_ino, whole_end)
                self._collect(fd, whole_end, lines, wanted)
            finally:
                os.close(fd)
            if len(lines) >= wanted:
                break
        if lines:
            yield self._render(list(lines))

    def _last_newline(self, fd: int, size: int) -> int:
        end = size
        while end > 0:
            start = max(0, end - 4096)
            found = os.pread(fd, end - start, start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
        return 0

    def _collect(self, fd: int, end: int, lines: deque[bytes], wanted: int) -> None:
        rest = b""
        while end > 0 and len(lines) < wanted:
            start = max(0, end - _BLOCK)
            data = os.pread(fd, end - start, start) + rest
            end = start
            parts = data.split(b"\n")
            rest = parts[0] + b"\n" if start else b""
            complete = parts[1:-1] if start else parts[:-1]
            for line in reversed(complete):
                if len(lines) >= wanted:
                    return
                if self._is_wanted(line):
                    lines.appendleft(line)

    def _is_wanted(self, line: bytes) -> bool:
        return len(self._wanted) == 2 or self._stream_of(line) in self._wanted

    # ---- rendering ----

    def _render_json(self, lines: list[bytes]) -> bytes:
        request = self._request
        parts: list[bytes] = []
        loads = json.loads
        for line in lines:
            try:
                entry = loads(line)
                text, stream, stamp = entry["log"], entry["stream"], entry["time"]
            except (ValueError, KeyError, TypeError):
                continue  # a torn line after a power cut
            if stream not in self._wanted:
                continue
            if request.since_ns or request.until_ns:
                time_ns = clock.parse_rfc3339(stamp)
                if time_ns < request.since_ns:
                    continue
                if request.until_ns and time_ns > request.until_ns:
                    self._past_until = True
                    break
            data = text.encode("utf-8", "surrogatepass")
            if request.details:
                data = _details(entry.get("attrs")) + data
            if request.timestamps:
                data = clock.rfc3339_fixed(clock.parse_rfc3339(stamp)).encode() + b" " + data
            if self._mux:
                parts.append(_HEADER.pack(_STREAMS.get(stream, 1), len(data)))
            parts.append(data)
        return b"".join(parts)

    def _render_local(self, lines: list[bytes]) -> bytes:
        request = self._request
        parts: list[bytes] = []
        for line in lines:
            mark = line[20:21]
            stream = _LOCAL_STREAMS.get(mark)
            if stream not in self._wanted or not line[:19].isdigit():
                continue
            time_ns = int(line[:19])
            if time_ns < request.since_ns:
                continue
            if request.until_ns and time_ns > request.until_ns:
                self._past_until = True
                break
            data = line[_LOCAL_PREFIX:] + (b"\n" if mark in b"oe" else b"")
            if request.details:
                data = _details(self._attrs) + data
            if request.timestamps:
                data = clock.rfc3339_fixed(time_ns).encode() + b" " + data
            if self._mux:
                parts.append(_HEADER.pack(_STREAMS[stream], len(data)))
            parts.append(data)
        return b"".join(parts)

    # ---- following ----

    async def _follow(self, running: Callable[[], bool]) -> AsyncIterator[bytes]:
        watch = _Watch()
        fd = -1
        rest = b""
        try:
            inode, offset = self._position
            while True:
                ended = not running()
                if fd < 0:
                    fd = _open(self._path)
                    if fd >= 0:
                        watch.add(self._path)
                        if os.fstat(fd).st_ino != inode:
                            offset = 0
                        os.lseek(fd, offset, os.SEEK_SET)
                if fd >= 0:
                    while block := await asyncio.to_thread(os.read, fd, _BLOCK):
                        whole, newline, rest = (rest + block).rpartition(b"\n")
                        if newline and (piece := self._render(whole.split(b"\n"))):
                            yield piece
                        if self._past_until:
                            return
                    if self._rotated(fd):
                        os.close(fd)
                        fd, inode, offset, rest = -1, 0, 0, b""
                        continue
                if ended:
                    return
                if self._request.until_ns and clock.now_ns() > self._request.until_ns:
                    return
                await watch.changed(_IDLE_S)
        finally:
            watch.close()
            if fd >= 0:
                os.close(fd)

    def _rotated(self, fd: int) -> bool:
        try:
            return os.stat(self._path).st_ino != os.fstat(fd).st_ino
        except FileNotFoundError:
            return False


def _json_stream(line: bytes) -> object:
    return json.loads(line).get("stream")


def _local_stream(line: bytes) -> object:
    return _LOCAL_STREAMS.get(line[20:21])


def _open_file(path: str) -> int:
    """An fd of the file, of its unpacked content when it is compressed. Raises: FileNotFoundError."""
    if not path.endswith(".gz"):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with gzip.open(path) as source, os.fdopen(os.memfd_create("log"), "w+b") as target:
        shutil.copyfileobj(source, target, _BLOCK)
        target.seek(0)
        return os.dup(target.fileno())


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1


def _details(attributes: Mapping[str, str] | None) -> bytes:
    if not attributes:
        return b" "
    return ",".join(f"{k}={v}" for k, v in sorted(attributes.items())).encode() + b" "


class _Watch:
    """inotify on a file, read by the event loop."""

    _libc = ctypes.CDLL(None, use_errno=True)

    def __init__(self) -> None:
        self._fd = self._libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._changed = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._fd, self._drain)

    def add(self, path: str) -> None:
        """Watch one more file."""
        self._libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_MODIFY | _IN_MOVE_SELF | _IN_DELETE_SELF)

    def _drain(self) -> None:
        try:
            os.read(self._fd, 65536)
        except BlockingIOError:
            return
        self._changed.set()

    async def changed(self, timeout_s: float) -> None:
        """Returns at the next change, or after timeout_s."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    def close(self) -> None:
        """Stop watching."""
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
