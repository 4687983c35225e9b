"""What the runtime itself puts into a container's root file system: mount points, which are no change of the user's.

Docker keeps them in a layer of its own below the container's; here they are found again in the container's. They stay
out of commits and, as paths, out of `diff`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence

# Empty files, mounted over.
STUBS = frozenset((b"etc/hostname", b"etc/hosts", b"etc/resolv.conf", b"dev/console", b".dockerenv"))
DIRECTORIES = frozenset((b"dev", b"dev/pts", b"dev/shm", b"dev/mqueue", b"proc", b"sys", b"etc"))
_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def is_stub(name: bytes, info: os.stat_result) -> bool:
    """Whether `name` (relative) is a file that the runtime made to mount over."""
    return name in STUBS and stat.S_ISREG(info.st_mode) and info.st_size == 0


def skipper(upper_fd: int, lower_fds: Sequence[int]) -> Callable[[bytes, os.stat_result], bool]:
    """For Options.skip: what of an upper directory is the runtime's. The fds stay the caller's and open.

    A directory is the runtime's when all in it is, and it looks like the one below, or there is none below.
    """

    def skip(name: bytes, info: os.stat_result) -> bool:
        if stat.S_ISDIR(info.st_mode):
            return name in DIRECTORIES and _only_stubs(upper_fd, name) and _unchanged(lower_fds, name, info)
        return is_stub(name, info)

    return skip


def _only_stubs(upper_fd: int, name: bytes) -> bool:
    fd = os.open(name, _DIR_FLAGS, dir_fd=upper_fd)
    try:
        if any(key.endswith(".opaque") for key in os.listxattr(fd)):
            return False
        for child in map(os.fsencode, os.listdir(fd)):
            whole = name + b"/" + child
            info = os.stat(child, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                if whole not in DIRECTORIES or os.listdir(os.fsdecode(b"/proc/self/fd/%d/%b" % (fd, child))):
                    return False
            elif not is_stub(whole, info):
                return False
        return True
    finally:
        os.close(fd)


def _unchanged(lower_fds: Sequence[int], name: bytes, info: os.stat_result) -> bool:
    for fd in lower_fds:
        try:
            below = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            return False
        return (below.st_mode, below.st_uid, below.st_gid) == (info.st_mode, info.st_uid, info.st_gid)
    return True
