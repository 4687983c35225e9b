"""Making and shaping processes: clone3, pidfd, prctl, close_range, keyrings, priorities.

`clone` here is a raw fork with namespace flags. Python's own fork hooks don't run, so the caller must be
single-threaded, and the child must exec or _exit and never return into the caller's code.
"""

import ctypes
import os

from rorqual.linux import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47

CLONE_FILES = 0x00000400
CLONE_PARENT = 0x00008000
_CLONE_INTO_CGROUP = 0x200000000

_UNSIGNED_MAX = 0xFFFFFFFF
_CLOSE_RANGE_CLOEXEC = 4
_KEYCTL_JOIN_SESSION_KEYRING = 1


class _CloneArgs(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    )


_int, _uint, _ulong = ctypes.c_int, ctypes.c_uint, ctypes.c_ulong
_clone3 = libc.system_call(libc.NR_CLONE3, ctypes.POINTER(_CloneArgs), ctypes.c_size_t)
_close_range = libc.system_call(libc.NR_CLOSE_RANGE, _uint, _uint, _uint)
_prctl = libc.function("prctl", _int, _ulong, _ulong, _ulong, _ulong)
_keyctl = libc.system_call(libc.older_number("keyctl"), _int, ctypes.c_void_p, _ulong, _ulong, _ulong)
_personality = libc.function("personality", _ulong)
_setdomainname = libc.function("setdomainname", ctypes.c_char_p, ctypes.c_size_t)
_ioprio_set = libc.system_call(libc.older_number("ioprio_set"), _int, _int, _int)


def clone(flags: int, *, cgroup_fd: int | None = None) -> int:
    """Fork with `flags` (CLONE_NEW*): the child's pid, or 0 in the child. `cgroup_fd`: a cgroup v2 directory."""
    arguments = _CloneArgs(flags=flags, exit_signal=0 if flags & CLONE_PARENT else signal.SIGCHLD)
    if cgroup_fd is not None:
        arguments.flags |= _CLONE_INTO_CGROUP
        arguments.cgroup = cgroup_fd
    return libc.check(_clone3(arguments, ctypes.sizeof(arguments)))


def prctl(option: int, argument: int = 0, argument3: int = 0) -> int:
    return libc.check(_prctl(option, argument, argument3, 0, 0))


def set_name(name: str) -> None:
    """The thread's name as ps shows it; the kernel keeps 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    prctl(PR_SET_NAME, ctypes.addressof(buffer))


def set_parent_death_signal(signum: int) -> None:
    """Get a signal when the parent thread ends (0: none). A fork clears it for the child."""
    prctl(PR_SET_PDEATHSIG, signum)


def set_child_subreaper() -> None:
    """Orphans among the descendants become this process's children."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def close_from(first: int, keep: frozenset[int] = frozenset()) -> None:
    """Close every fd from `first` on but those in `keep`."""
    low = first
    for fd in sorted(fd for fd in keep if fd >= first):
        if fd > low:
            libc.check(_close_range(low, fd - 1, 0))
        low = fd + 1
    libc.check(_close_range(low, _UNSIGNED_MAX, 0))


def cloexec_from(first: int) -> None:
    """Mark every fd from `first` on close-on-exec."""
    libc.check(_close_range(first, _UNSIGNED_MAX, _CLOSE_RANGE_CLOEXEC))


def start_time(pid: int) -> int:
    """When the process started, in clock ticks after boot: with the pid, its identity. 0 when it is a zombie.

    Raises: ProcessLookupError when there is none. Source: proc_pid_stat(5), fields 3 and 22.
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):  # it may go between being found and being opened
        raise ProcessLookupError(3, os.strerror(3)) from None
    try:
        line = os.read(fd, 4096)
    finally:
        os.close(fd)
    fields = line[line.rindex(b")") + 2 :].split()
    return 0 if fields[0] in (b"Z", b"X", b"x") else int(fields[19])


_PF_EXITING = 0x4


def runs(pid: int) -> bool:
    """Whether it still executes anything: false of one that is gone, a zombie, or past the point of no return.

    The last differs from a zombie where the kernel waits in its name: the init of a pid namespace ends only when every
    process of the namespace was reaped, those of parents outside too. Source: proc_pid_stat(5), fields 3 and 9.
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):  # it may go between being found and being opened
        return False
    try:
        line = os.read(fd, 4096)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    fields = line[line.rindex(b")") + 2 :].split()
    return fields[0] not in (b"Z", b"X", b"x") and not int(fields[6]) & _PF_EXITING


def join_session_keyring(name: str) -> int:
    """A new session keyring, so that the host's keys (they have no namespace) are out of reach."""
    text = ctypes.create_string_buffer(name.encode())
    return libc.check(_keyctl(_KEYCTL_JOIN_SESSION_KEYRING, ctypes.cast(text, ctypes.c_void_p), 0, 0, 0))


def personality(persona: int) -> None:
    libc.check(_personality(persona))


def setdomainname(name: str) -> None:
    encoded = name.encode()
    libc.check(_setdomainname(encoded, len(encoded)))


def ioprio_set(io_class: int, priority: int) -> None:
    """The I/O priority of this process: class 1 (RT), 2 (BE) or 3 (IDLE); 0 is the highest priority of 0-7."""
    libc.check(_ioprio_set(1, 0, io_class << 13 | priority))
