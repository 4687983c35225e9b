"""Room set aside on a disk: removing things must work when the disk is full, and is written down before it frees any.

Used by the databases of rorquald and rorqual-containerd, which ask before each transaction.
"""

from __future__ import annotations

import os
from contextlib import suppress

_SIZE = 1 << 20
_LOW = _SIZE // 2  # bytes free below which the ballast is dropped
_HIGH = 32 * _SIZE  # and above which it is taken on again


class Ballast:
    """A file of 1 MiB beside `path`; a disk that has no room for it is used without."""

    def __init__(self, path: str) -> None:
        self._path = f"{path}.ballast"
        self._directory = os.path.dirname(path) or "."
        self._aboard = os.path.exists(self._path)

    def trim(self) -> None:
        """Drop the ballast when the disk is full, take it on when there is room: two or three microseconds."""
        disk = os.statvfs(self._directory)
        free = disk.f_bavail * disk.f_frsize
        if self._aboard and free < _LOW:
            self._aboard = False
            with suppress(OSError):  # a read-only disk: the transaction will say so
                os.unlink(self._path)
        elif not self._aboard and free > _HIGH:
            self._take_on()

    def _take_on(self) -> None:
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return  # the transaction will say what is wrong with the disk
        try:
            os.posix_fallocate(fd, 0, _SIZE)
            self._aboard = True
        except OSError:
            os.unlink(self._path)
        finally:
            os.close(fd)
