"""syncfs(2) and sync_file_range(2), which os lacks. syncfs waits for the disk: call it in a thread."""

import ctypes
import os
from functools import partial

_libc = ctypes.CDLL(None, use_errno=True)  # not PyDLL as libc.py's: this may take seconds, without the GIL
_libc.syncfs.argtypes = (ctypes.c_int,)
_libc.syncfs.restype = ctypes.c_int
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_libc.sync_file_range.restype = ctypes.c_int
_SYNC_FILE_RANGE_WRITE = 2


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


def begin_writeback(fd: int, offset: int = 0) -> None:
    """Start to write the file's dirty pages from `offset` on, without waiting for them: the sync later has less to do.

    Only a hint: a file system that cannot is left alone.
    """
    _libc.sync_file_range(fd, offset, 0, _SYNC_FILE_RANGE_WRITE)


def write_durably(path: str, text: str, mode: int = 0o666) -> None:
    """Make `path` a file with `text`, or leave it as it was: either would survive power loss. Raises OSError."""
    with open(f"{path}.new", "w", encoding="utf-8", opener=partial(os.open, mode=mode)) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{path}.new", path)
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Put the names in a directory on stable storage. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
