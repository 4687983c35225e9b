"""prctl(2) on the calling process. Names as the kernel has them."""

from __future__ import annotations

import ctypes
import os

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_NO_NEW_PRIVS = 38
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl
_prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
_prctl.restype = ctypes.c_int


def prctl(option: int, value: int = 1) -> None:
    """prctl(option, value, 0, 0, 0). Raises OSError."""
    if _prctl(option, value, 0, 0, 0) < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"prctl({option}, {value}): {os.strerror(errno)}")


def set_name(name: str) -> None:
    """The thread's name as ps shows it; the kernel keeps 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    prctl(PR_SET_NAME, ctypes.addressof(buffer))


def set_parent_death_signal(signum: int) -> None:
    """Get a signal when the parent thread ends. Cleared for children by fork(2)."""
    prctl(PR_SET_PDEATHSIG, signum)


def set_child_subreaper() -> None:
    """Orphans among the descendants become this process's children."""
    prctl(PR_SET_CHILD_SUBREAPER)
