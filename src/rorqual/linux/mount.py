"""mount(2) and the fd-based mount API (open_tree, move_mount, mount_setattr: Linux 5.12), with kernel names.

Targets are fds. Filesystems are mounted through `/proc/self/fd/N`, so /proc must be the host's at that time; trees
(binds) are cloned detached, given their attributes, and only then attached, so that nobody sees them without.
"""

import ctypes
import os

from rorqual.linux import libc

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_SYNCHRONOUS = 0x10
MS_REMOUNT = 0x20
MS_MANDLOCK = 0x40
MS_DIRSYNC = 0x80
MS_NOSYMFOLLOW = 0x100
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_SILENT = 0x8000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MS_RELATIME = 0x200000
MS_I_VERSION = 0x800000
MS_STRICTATIME = 0x1000000
MS_LAZYTIME = 0x2000000

MNT_DETACH = 0x2

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x00
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_AT_SYMLINK_NOFOLLOW = 0x100
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 0x04
_MOVE_MOUNT_T_EMPTY_PATH = 0x40
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6

_int, _text, _ulong = ctypes.c_int, ctypes.c_char_p, ctypes.c_ulong


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


_mount = libc.function("mount", _text, _text, _text, _ulong, _text)
_umount2 = libc.function("umount2", _text, _int)
_pivot_root = libc.function("pivot_root", _text, _text)
_open_tree = libc.system_call(libc.NR_OPEN_TREE, _int, _text, ctypes.c_uint)
_move_mount = libc.system_call(libc.NR_MOVE_MOUNT, _int, _text, _int, _text, ctypes.c_uint)
_fsopen = libc.system_call(libc.NR_FSOPEN, _text, ctypes.c_uint)
_fsconfig = libc.system_call(libc.NR_FSCONFIG, _int, ctypes.c_uint, _text, _text, _int)
_fsmount = libc.system_call(libc.NR_FSMOUNT, _int, ctypes.c_uint, ctypes.c_uint)
_mount_setattr = libc.system_call(
    libc.NR_MOUNT_SETATTR, _int, _text, ctypes.c_uint, ctypes.POINTER(_MountAttr), ctypes.c_size_t
)


def _bytes(text: str | bytes | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def mount(source: str | None, target: str, fstype: str | None, flags: int, data: str | None = None) -> None:
    """mount(2) by name: only for targets that nobody hostile can move."""
    libc.check(_mount(_bytes(source), os.fsencode(target), _bytes(fstype), flags, _bytes(data)), source or "", target)


def mount_at(source: str, target_fd: int, fstype: str, flags: int, data: str | None = None) -> None:
    """Mount a filesystem over the file that `target_fd` (O_PATH will do) has pinned."""
    mount(source, f"/proc/self/fd/{target_fd}", fstype, flags, data)


def umount(target: str, flags: int = 0) -> None:
    libc.check(_umount2(os.fsencode(target), flags), target)


def set_propagation(target: str, flags: int) -> None:
    """Change a mount's propagation (MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE, each with MS_REC or without)."""
    mount(None, target, None, flags)


def pivot_root_here() -> None:
    """Make the working directory, a mount's root, the root of the mount namespace; the old root lies on top of it.

    pivot_root(".", ".") needs no directory for the old root: it is stacked over the new one and unmounted from there.
    """
    libc.check(_pivot_root(b".", b"."), ".")


def clone_tree(path: str, *, recursive: bool, follow: bool = True) -> int:
    """A detached copy of the mount at `path`, below it too when `recursive`: the source of a bind mount, as an fd."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | (_AT_RECURSIVE if recursive else 0)
    flags |= 0 if follow else _AT_SYMLINK_NOFOLLOW
    return libc.check(_open_tree(_AT_FDCWD, os.fsencode(path), flags), path)


def clone_tree_of(fd: int, *, recursive: bool) -> int:
    """As clone_tree, of the file that `fd` has pinned."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    return libc.check(_open_tree(fd, b"", flags))


def attach(tree_fd: int, target_fd: int) -> None:
    """Attach a detached mount over the file that `target_fd` has pinned."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    libc.check(_move_mount(tree_fd, b"", target_fd, b"", flags))


def bind_at(source: str | int, target_fd: int, *, recursive: bool) -> None:
    """A copy of the mounts at `source`, a path or what an fd has pinned, over the file that `target_fd` has pinned."""
    tree = (
        clone_tree(source, recursive=recursive)
        if isinstance(source, str)
        else clone_tree_of(source, recursive=recursive)
    )
    try:
        attach(tree, target_fd)
    finally:
        os.close(tree)


def set_attributes(
    fd: int, *, set_: int = 0, clear: int = 0, propagation: int = 0, recursive: bool = False, userns_fd: int = 0
) -> None:
    """mount_setattr(2) on the mount whose root `fd` is: MOUNT_ATTR_* to set and to clear, MS_* propagation."""
    attributes = _MountAttr(set_, clear, propagation, userns_fd)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    libc.check(_mount_setattr(fd, b"", flags, attributes, ctypes.sizeof(attributes)))


def new_filesystem(fstype: str, options: tuple[tuple[str, str | None], ...] = (), attributes: int = 0) -> int:
    """A detached mount of a fresh filesystem, as an fd: attach it, clone it, or only look below it."""
    context = libc.check(_fsopen(fstype.encode(), _FSOPEN_CLOEXEC), fstype)
    try:
        for key, value in options:
            command = _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING
            libc.check(_fsconfig(context, command, key.encode(), _bytes(value), 0), key)
        libc.check(_fsconfig(context, _FSCONFIG_CMD_CREATE, None, None, 0), fstype)
        return libc.check(_fsmount(context, _FSMOUNT_CLOEXEC, attributes), fstype)
    finally:
        os.close(context)


def is_shared(path: str) -> bool:
    """Whether the mount that `path` is on has peers: mounts below it there appear elsewhere too. Raises: OSError."""
    return "shared" in propagation(path)[1]


def propagation(path: str) -> tuple[str, frozenset[str]]:
    """Where the mount that `path` is on is mounted, and its optional fields: some of {"shared", "master" ...}.

    Source: proc_pid_mountinfo(5). Raises: OSError.
    """
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{fd}", "rb") as f:
            mount_id = next(line.split()[1] for line in f if line.startswith(b"mnt_id:"))
    finally:
        os.close(fd)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        for line in f:
            if line.startswith(mount_id.decode() + " "):
                fields = line.split(" ")
                optional = fields[6 : fields.index("-", 6)]
                return fields[4], frozenset(field.partition(":")[0] for field in optional)
    raise FileNotFoundError(2, "no such mount", path)
