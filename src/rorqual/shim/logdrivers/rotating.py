"""A file of lines that is rotated by its size: `path`, `path`.1, `path`.2 ..., the rotated ones compressed on demand.

Compression is a child's work, so that no output waits for it: `path`.1 becomes `path`.1.gz when that is whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

_LOG_MODE = 0o640


class RotatingFile:
    """Appends whole entries to `path`; `max_file` files in all. -1 for no limit of the size."""

    def __init__(self, path: str, *, max_size_bytes: int = -1, max_file: int = 1, compress: bool = False) -> None:
        self._path = path
        self._max_size = max_size_bytes
        self._max_file = max(1, max_file)
        self._compress = compress and self._max_file > 1
        self._compressor = 0
        self._fd = -1
        self._size = 0
        self._open()

    def _open(self) -> None:
        # A write that fails on a full disk is reported by the stream that made it; O_APPEND keeps entries whole.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._fd = os.open(self._path, flags, _LOG_MODE)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self._path), 0o710, exist_ok=True)
            self._fd = os.open(self._path, flags, _LOG_MODE)
        self._size = os.fstat(self._fd).st_size

    def append(self, entries: bytes) -> None:
        """Add entries, each of which ends with a newline. Raises OSError."""
        if self._max_size > 0 and self._size + len(entries) > self._max_size:
            for entry in entries.splitlines(keepends=True) if b"\r" not in entries else _lines(entries):
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
            self._finish_compression()
            for n in range(self._max_file - 1, 1, -1):
                for suffix in (".gz", ""):
                    _replace(f"{self._path}.{n - 1}{suffix}", f"{self._path}.{n}{suffix}")
            _replace(self._path, f"{self._path}.1")
            if self._compress:
                self._compressor = _compress(f"{self._path}.1")
        self._open()

    def _finish_compression(self) -> None:
        if self._compressor:
            try:
                os.waitpid(self._compressor, 0)
            except ChildProcessError:
                pass  # the shim, which reaps every child, has seen it end
            self._compressor = 0

    def replay(self) -> Iterator[bytes]:
        """Every entry, the oldest first."""
        for n in range(self._max_file - 1, -1, -1):
            path = f"{self._path}.{n}" if n else self._path
            try:
                with open(path, "rb") as file:
                    yield from file
            except FileNotFoundError:
                if n and os.path.exists(path + ".gz"):
                    import gzip

                    with gzip.open(path + ".gz") as compressed:
                        yield from compressed

    def close(self) -> None:
        """A second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _lines(entries: bytes) -> list[bytes]:
    # bytes.splitlines would break at a lone \r too, which raw entries may hold
    return [line + b"\n" for line in entries[:-1].split(b"\n")]


def _replace(old: str, new: str) -> None:
    try:
        os.replace(old, new)
    except FileNotFoundError:
        return  # fewer rotations than max_file so far
    other = new.removesuffix(".gz") if new.endswith(".gz") else new + ".gz"
    try:
        os.unlink(other)  # what was rotated away under the other name
    except FileNotFoundError:
        return


def _compress(path: str) -> int:
    """Fork a child that turns `path` into `path`.gz; its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.nice(10)
        import gzip
        import shutil

        with open(path, "rb") as source, gzip.open(path + ".gz.tmp", "wb", compresslevel=3) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        os.chmod(path + ".gz.tmp", _LOG_MODE)
        os.rename(path + ".gz.tmp", path + ".gz")
        os.unlink(path)
        status = 0
    finally:
        os._exit(status)  # never back into the shim's loop
