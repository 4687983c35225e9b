"""The directories between the root of a walk and where it is: few of them open, each found again without its path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self

from rorqual.errdefs import Conflict

# A process has 1024 fds by default, and walks may run side by side.
_MAX_OPEN = 32


@dataclass(slots=True)
class Level:
    """One directory: `names` still to come (the next one last), `prefix` in front of each; fd -1 while closed."""

    fd: int
    device: int
    inode: int
    prefix: bytes
    names: list[bytes]


class Levels:
    """A stack; the innermost directory is always open."""

    def __init__(self, fd: int, info: os.stat_result, prefix: bytes) -> None:
        """Takes `fd` over."""
        self._levels: list[Level] = []
        self.enter(fd, info, prefix)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for level in self._levels:
            if level.fd >= 0:
                os.close(level.fd)
        self._levels.clear()

    @property
    def depth(self) -> int:
        return len(self._levels)

    def current(self) -> Level | None:
        """The innermost directory, None when the walk is over."""
        return self._levels[-1] if self._levels else None

    def enter(self, fd: int, info: os.stat_result, prefix: bytes) -> None:
        """Takes `fd` over, a directory below the innermost one."""
        try:
            names = sorted(map(os.fsencode, os.listdir(fd)), reverse=True)
        except BaseException:
            os.close(fd)
            raise
        self._levels.append(Level(fd, info.st_dev, info.st_ino, prefix, names))
        if len(self._levels) > _MAX_OPEN:
            far = self._levels[-1 - _MAX_OPEN]
            os.close(far.fd)
            far.fd = -1

    def leave(self) -> None:
        """Back to the directory above.

        Raises: Conflict when it is another one now: `..` of a directory that was moved leads to who knows where.
        """
        left = self._levels.pop()
        try:
            above = self._levels[-1] if self._levels else None
            if above is None or above.fd >= 0:
                return
            fd = os.open(b"..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=left.fd)
            info = os.fstat(fd)
            if (info.st_dev, info.st_ino) != (above.device, above.inode):
                os.close(fd)
                raise Conflict(f"{os.fsdecode(left.prefix)}: moved away while it was read")
            above.fd = fd
        finally:
            os.close(left.fd)
