"""Namespaces: their flags and names, unshare(2) and setns(2)."""

import ctypes

from rorqual.linux import libc

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# runtime-spec's name -> (flag, name below /proc/<pid>/ns)
TYPES: dict[str, tuple[int, str]] = {
    "user": (CLONE_NEWUSER, "user"),
    "pid": (CLONE_NEWPID, "pid"),
    "ipc": (CLONE_NEWIPC, "ipc"),
    "uts": (CLONE_NEWUTS, "uts"),
    "network": (CLONE_NEWNET, "net"),
    "cgroup": (CLONE_NEWCGROUP, "cgroup"),
    "time": (CLONE_NEWTIME, "time"),
    "mount": (CLONE_NEWNS, "mnt"),
}

_unshare = libc.function("unshare", ctypes.c_int)
_setns = libc.function("setns", ctypes.c_int, ctypes.c_int)


def unshare(flags: int) -> None:
    libc.check(_unshare(flags))


def setns(fd: int, flags: int) -> None:
    """Join the namespace `fd`, or of the process that a pidfd means those in `flags`, all at once (Linux 5.8)."""
    libc.check(_setns(fd, flags))


def in_initial_user_namespace() -> bool:
    """Whether this process's IDs are the host's: root of another user namespace is root there only."""
    with open("/proc/self/uid_map", "rb") as f:
        return f.read().split() == [b"0", b"0", b"4294967295"]
