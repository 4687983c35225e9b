"""libc and raw system calls through ctypes, the GIL kept: the one place where argument types are declared.

The GIL is kept (PyDLL) because callers include a process between clone and exec, where giving it up could hand it to
nobody. None of these block for long; those that may (`waits`) give it up. Everything here raises OSError with the
errno the kernel gave.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_libc = ctypes.PyDLL(None, use_errno=True)
_waiting_libc = ctypes.CDLL(None, use_errno=True)

Call = Callable[..., int]


def check(result: int, *paths: object) -> int:
    """`result`, unless it is -1: then OSError of the call's errno, with up to two paths."""
    if result == -1:
        number = ctypes.get_errno()
        if len(paths) == 2:
            raise OSError(number, os.strerror(number), paths[0], None, paths[1])
        raise OSError(number, os.strerror(number), *paths)
    return result


def function(name: str, *argtypes: Any) -> Call:
    """The libc function `name`, its arguments typed, its result an int."""
    f = _libc[name]
    f.argtypes = argtypes
    f.restype = ctypes.c_int
    return f


def system_call(number: int, *argtypes: Any, waits: bool = False) -> Call:
    """The system call `number` (one that libc may not wrap), through libc's syscall(2).

    With `waits` the GIL is given up meanwhile: for calls that a slow file system holds, never between clone and exec.
    """
    f = (_waiting_libc if waits else _libc)["syscall"]
    f.argtypes = (ctypes.c_long, *argtypes)
    f.restype = ctypes.c_long
    return _numbered(f, number)


def _numbered(f: Any, number: int) -> Call:
    def call(*arguments: Any) -> int:
        result: int = f(number, *arguments)
        return result

    return call


# Numbers from 424 on are the same on every architecture; the few older ones are kept by machine.
NR_OPEN_TREE = 428
NR_MOVE_MOUNT = 429
NR_FSOPEN = 430
NR_FSCONFIG = 431
NR_FSMOUNT = 432
NR_CLONE3 = 435
NR_CLOSE_RANGE = 436
NR_OPENAT2 = 437
NR_MOUNT_SETATTR = 442
NR_QUOTACTL_FD = 443

_OLDER = {
    "x86_64": {"seccomp": 317, "keyctl": 250, "ioprio_set": 251, "sched_setattr": 314, "bpf": 321, "getpid": 39},
    "aarch64": {"seccomp": 277, "keyctl": 219, "ioprio_set": 30, "sched_setattr": 274, "bpf": 280, "getpid": 172},
    "riscv64": {"seccomp": 277, "keyctl": 219, "ioprio_set": 30, "sched_setattr": 274, "bpf": 280, "getpid": 172},
}


def older_number(name: str) -> int:
    """The number of a call older than 424. Raises: OSError ENOSYS on an architecture that isn't known here."""
    try:
        return _OLDER[os.uname().machine][name]
    except KeyError:
        raise OSError(38, f"{name}: unknown on this architecture") from None
