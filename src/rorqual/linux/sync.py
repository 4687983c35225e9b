"""syncfs(2), the one call that os lacks. It waits for the disk: call it in a thread; the GIL is given up meanwhile."""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)  # not PyDLL as libc.py's: this may take seconds
_libc.syncfs.argtypes = (ctypes.c_int,)
_libc.syncfs.restype = ctypes.c_int


def syncfs(path: str) -> None:
    """Put everything written to the file system of the directory `path` on stable storage.

    Raises: OSError, also for an earlier write that failed (EIO, ENOSPC; Linux 5.8).
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) == -1:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(fd)
