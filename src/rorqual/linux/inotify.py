"""inotify(7): an fd that becomes readable when a file changes. Of cgroup v2 the kernel tells events that way."""

import ctypes
import os

from rorqual.linux import libc

IN_MODIFY = 0x2

_init1 = libc.function("inotify_init1", ctypes.c_int)
_add_watch = libc.function("inotify_add_watch", ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


def watch(path: str, mask: int) -> int:
    """A non-blocking fd; it becomes readable too when the file goes. Raises: OSError."""
    fd = libc.check(_init1(os.O_CLOEXEC | os.O_NONBLOCK))
    try:
        libc.check(_add_watch(fd, os.fsencode(path), mask), path)
    except BaseException:
        os.close(fd)
        raise
    return fd
