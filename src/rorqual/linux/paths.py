"""Opening paths below a directory that somebody else controls, safely: openat2(2) and nothing by string.

Every path in a rootfs, volume, image layer or build context goes through here. A root is an fd; symlinks in the path
are resolved as if that fd were `/`, by the kernel, in one step, so that no swap of a component can lead outside. Paths
made here are created relative to pinned fds, never by name again.

Source: openat2(2). What it prevents: CVE-2018-15664, CVE-2019-14271, CVE-2021-30465, CVE-2025-52881.
"""

import ctypes
import errno
import os
import stat

from rorqual.linux import libc

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_IN_ROOT = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_STEP = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS

# The kernel answers EAGAIN when a rename anywhere raced with a ".." it had to prove; a hostile renamer can go on doing
# that, so the tries are bounded.
_TRIES = 128


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_TYPES = (ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t)
_openat2 = libc.system_call(libc.NR_OPENAT2, *_TYPES)
_waiting_openat2 = libc.system_call(libc.NR_OPENAT2, *_TYPES, waits=True)

Path = str | bytes


def openat2(dir_fd: int, path: Path, flags: int, *, mode: int = 0, resolve: int, waits: bool = False) -> int:
    """A new close-on-exec fd; `waits` lets other threads run meanwhile (a file system may answer late, or never).

    Raises: OSError (EXDEV or ELOOP when `resolve` forbids the way there).
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    encoded = os.fsencode(path)
    call = _waiting_openat2 if waits else _openat2
    for _ in range(_TRIES):
        fd = call(dir_fd, encoded, how, ctypes.sizeof(how))
        if fd >= 0:
            return fd
        if ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
            break
    return libc.check(fd, path)


def open_root(path: Path) -> int:
    """An O_PATH fd of a directory that the caller trusts, to be the root of the others."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def open_in_root(root_fd: int, path: Path, flags: int, mode: int = 0, *, waits: bool = False) -> int:
    """Open `path` as a process chrooted at `root_fd` would: absolute paths, `..` and symlinks stay below it."""
    return openat2(root_fd, path, flags, mode=mode, resolve=_IN_ROOT, waits=waits)


def resolved_in_root(root_fd: int, path: Path) -> str:
    """The absolute path, seen from the root, that `path` comes to with its links followed, as far as it exists.

    For showing and for rules about paths, not for opening: it can change the moment after. Raises: OSError ELOOP.
    """
    waiting, done, links = components(path)[::-1], list[str](), 0
    while waiting:
        name = waiting.pop()
        if name in ("", "."):
            continue
        if name == "..":
            done = done[:-1]
            continue
        whole = "/".join((*done, name))
        try:
            fd = open_in_root(root_fd, whole, os.O_PATH | os.O_NOFOLLOW, waits=True)
        except (FileNotFoundError, NotADirectoryError):
            return os.path.normpath("/" + "/".join((whole, *waiting[::-1])))
        try:
            is_link = stat.S_ISLNK(os.fstat(fd).st_mode)
            target = os.readlink("", dir_fd=fd) if is_link else ""
        finally:
            os.close(fd)
        if not is_link:
            done.append(name)
            continue
        links += 1
        if links > _LINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if target.startswith("/"):
            done = []
        waiting += reversed(target.split("/"))
    return "/" + "/".join(done)


def open_beneath(dir_fd: int, path: Path, flags: int, mode: int = 0) -> int:
    """Open `path` below `dir_fd`, following no symlink and crossing no `..`. Raises: OSError EXDEV, ELOOP."""
    return openat2(dir_fd, path, flags, mode=mode, resolve=_STEP)


def components(path: Path) -> list[str]:
    """The path's names from the root down, `.` and `..` resolved by text (as `cd /` first would)."""
    clean = os.path.normpath("/" + os.fsdecode(path))
    return [name for name in clean.split("/") if name]


def mkdir_all_in_root(root_fd: int, path: Path, mode: int = 0o755) -> int:
    """An O_PATH fd of the directory `path`, made with its parents where missing (runtime-spec: mount points).

    Symlinks are followed within the root, those too that lead to what is missing: an image's
    /etc/resolv.conf -> /run/x/resolv.conf is a good mount point even without /run/x.
    """
    try:
        return open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        pass
    fd, missing = _walk(root_fd, path)
    return _mkdirs(fd, missing, mode)


def _mkdirs(fd: int, names: list[str], mode: int) -> int:
    """Make and enter each of `names`; takes `fd` over."""
    try:
        for name in names:
            try:
                os.mkdir(name, mode, dir_fd=fd)
            except FileExistsError:
                pass  # somebody was quicker: the open below tells whether it is a directory
            step = open_beneath(fd, name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
            os.close(fd)
            fd = step
    except BaseException:
        os.close(fd)
        raise
    return fd


_LINKS_MAX = 40  # as the kernel's own limit


def _walk(root_fd: int, path: Path) -> tuple[int, list[str]]:
    """The deepest part of `path` that exists, as an O_PATH fd, and the names that are missing below it.

    Each step opens one name below a pinned fd without following it; `..` goes back to the fd one came from, so that no
    rename can turn it into another directory, and stops at the root.

    Raises: OSError ELOOP, ENOTDIR; ENOENT when `..` follows a missing name.
    """
    waiting = components(path)[::-1]
    passed = [os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root_fd)]
    links = 0
    try:
        while waiting:
            name = waiting.pop()
            if name == "..":
                if len(passed) > 1:
                    os.close(passed.pop())
                continue
            try:
                step = openat2(passed[-1], name, os.O_PATH | os.O_NOFOLLOW, resolve=RESOLVE_BENEATH)
            except FileNotFoundError:
                missing = [name, *waiting[::-1]]
                if ".." in missing:
                    raise
                return passed.pop(), missing
            passed.append(step)
            if stat.S_ISLNK(os.fstat(step).st_mode):
                links += 1
                if links > _LINKS_MAX:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                _follow(passed, waiting)
        return passed.pop(), []
    finally:
        for fd in passed:
            os.close(fd)


def _follow(passed: list[int], waiting: list[str]) -> None:
    """Replace the symlink on top of `passed` by the names that it stands for."""
    link = passed.pop()
    try:
        target = os.readlink("", dir_fd=link)
    finally:
        os.close(link)
    if target.startswith("/"):
        while len(passed) > 1:
            os.close(passed.pop())
    waiting.extend(name for name in reversed(target.split("/")) if name not in ("", "."))


def open_parent_in_root(root_fd: int, path: Path, mode: int = 0o755) -> tuple[int, str]:
    """The directory that holds `path` (made where missing) as an O_PATH fd, and the last name, not yet resolved."""
    names = components(path)
    if not names:
        raise OSError(errno.EISDIR, "the root itself has no parent", path)
    return mkdir_all_in_root(root_fd, "/".join(names[:-1]) or ".", mode), names[-1]


def create_in_root(root_fd: int, path: Path, mode: int = 0o644) -> int:
    """An O_PATH fd of the file `path`, made empty (with its parents) where missing."""
    try:
        return open_in_root(root_fd, path, os.O_PATH)
    except FileNotFoundError:
        pass
    fd, missing = _walk(root_fd, path)
    if not missing:
        return fd
    parent_fd, name = _mkdirs(fd, missing[:-1], 0o755), missing[-1]
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
        try:
            os.close(os.open(name, flags, mode, dir_fd=parent_fd))
        except FileExistsError:
            pass  # made meanwhile: the open below refuses a symlink
        return open_beneath(parent_fd, name, os.O_PATH | os.O_NOFOLLOW)
    finally:
        os.close(parent_fd)


def read_in_root(root_fd: int, path: Path, limit_bytes: int) -> bytes:
    """The content of a regular file below the root.

    Raises: FileNotFoundError; OSError EINVAL when it isn't a regular file (a FIFO would block, a device act), EFBIG
    when it is longer than the limit.
    """
    fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        data = bytearray()
        while chunk := os.read(fd, min(65536, limit_bytes + 1 - len(data))):
            data += chunk
            if len(data) > limit_bytes:
                raise OSError(errno.EFBIG, f"larger than {limit_bytes} bytes", path)
        return bytes(data)
    finally:
        os.close(fd)


PROC_SUPER_MAGIC = 0x9FA0
CGROUP2_SUPER_MAGIC = 0x63677270
DEVPTS_SUPER_MAGIC = 0x1CD1


class _Statfs(ctypes.Structure):
    _fields_ = (("f_type", ctypes.c_long), ("rest", ctypes.c_long * 31))


_fstatfs = libc.function("fstatfs", ctypes.c_int, ctypes.POINTER(_Statfs))


def filesystem_type(fd: int) -> int:
    """The magic number of the filesystem that `fd` is on (statfs(2)); O_PATH fds too."""
    buffer = _Statfs()
    libc.check(_fstatfs(fd, buffer))
    return int(buffer.f_type)


def is_null_device(fd: int) -> bool:
    """Whether `fd` is the real /dev/null (CVE-2025-31133: a masked path must not become a link to anything else)."""
    status = os.fstat(fd)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)
