"""Running from a sealed image of the interpreter, so that no container can write to the host's (CVE-2019-5736).

A process that joins a container's namespaces can be reached there as /proc/<pid>/exe. When that is the host's
interpreter, a container with enough privilege opens it for writing once it is no longer running. So whatever later
enters containers starts itself again from one of two things that nobody can write to, not even root:

    the same file through a detached overlay without an upper layer: such a file system has no way to become writable,
    and the pages stay those of the page cache, shared with every other Python on the machine
    a copy in a sealed memfd, where the kernel or the caller's privileges do not allow the first: 5 MiB of memory
"""

import errno
import fcntl
import os
import sys

# ctypes is imported late: this module is what `rorqual-runc` imports before it starts a second time.

_MFD_EXEC = 0x10
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_OVERLAYFS_SUPER_MAGIC = 0x794C7630
_STATFS_BYTES = 256  # more than any architecture's struct statfs, which begins with f_type


def is_sealed() -> bool:
    """Whether this process runs from a file that can't be changed: asked of the kernel, not of the environment."""
    try:
        fd = os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _is_sealed_memfd(fd) or _is_sealed_overlay(fd)
    finally:
        os.close(fd)


def reexec_sealed(*, shared: bool = False, arguments: list[bytes] | None = None) -> None:
    """Return at once in a process that already runs sealed; otherwise start this very command line again, sealed.

    `arguments`: start the interpreter with these instead.

    `shared`: through the overlay where that is possible, which a process that lives long wants; making it takes the
    imports of rorqual.linux.mount, four times as long as the copy.

    argv[0] stays the interpreter's path, by which Python finds its virtual environment and its library. File
    descriptors, environment and pid stay too. Raises: OSError when the kernel has no memfd or no memory for it.
    """
    if is_sealed():
        return
    command = [os.fsencode(sys.executable), *(_command_line()[1:] if arguments is None else arguments)]
    sealed = -1
    if shared:
        try:
            sealed = _through_overlay(os.readlink("/proc/self/exe"))
        except OSError:  # no privilege, an old kernel, or two overlays are below already
            sealed = -1
    os.execve(sealed if sealed >= 0 else _sealed_copy("/proc/self/exe"), command, os.environb)


def _command_line() -> list[bytes]:
    """The arguments as the kernel has them: sys.argv lacks the interpreter's own options."""
    with open("/proc/self/cmdline", "rb") as f:
        return f.read().split(b"\0")[:-1]


def _through_overlay(path: str) -> int:
    """An O_PATH fd of `path` as a detached, read-only overlay shows it. Raises: OSError."""
    from rorqual.linux import mount

    running = os.stat("/proc/self/exe")
    # An overlay without an upper layer wants two lower ones; fds for paths, which would need escaping.
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        empty = mount.new_filesystem("tmpfs")
        try:
            layers = f"/proc/self/fd/{directory}:/proc/self/fd/{empty}"
            attributes = mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV
            overlay = mount.new_filesystem("overlay", (("lowerdir", layers),), attributes)
        finally:
            os.close(empty)
    finally:
        os.close(directory)
    try:
        fd = os.open(os.path.basename(path), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=overlay)
    finally:
        os.close(overlay)
    found = os.fstat(fd)
    if (found.st_ino, found.st_size, found.st_mtime_ns) != (running.st_ino, running.st_size, running.st_mtime_ns):
        os.close(fd)  # replaced since this process started: that one would be another Python
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
    return fd


def _is_sealed_memfd(fd: int) -> bool:
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    except OSError:  # EINVAL: an ordinary file
        return False


def _is_sealed_overlay(fd: int) -> bool:
    """An overlay that is read-only as a whole and mounted nowhere, as `_through_overlay` makes it."""
    if not os.fstatvfs(fd).f_flag & os.ST_RDONLY:
        return False
    with open(f"/proc/self/fdinfo/{fd}", "rb") as f:
        mount_id = next(line.split()[1] for line in f if line.startswith(b"mnt_id:"))
    with open("/proc/self/mountinfo", "rb") as f:
        if any(line.split(b" ", 1)[0] == mount_id for line in f):
            return False
    return _is_overlay(fd)


def _is_overlay(fd: int) -> bool:
    import ctypes

    from rorqual.linux import libc

    answer = ctypes.create_string_buffer(_STATFS_BYTES)
    fstatfs = libc.function("fstatfs", ctypes.c_int, ctypes.c_char_p)
    return fstatfs(fd, answer) == 0 and ctypes.c_long.from_buffer(answer).value == _OVERLAYFS_SUPER_MAGIC


def _sealed_copy(path: str) -> int:
    target = _memfd()
    with open(path, "rb") as source:
        remaining = os.fstat(source.fileno()).st_size
        while remaining:
            remaining -= os.sendfile(target, source.fileno(), None, remaining)
    os.fchmod(target, 0o555)
    fcntl.fcntl(target, fcntl.F_ADD_SEALS, _SEALS)
    return target


def _memfd() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("rorqual", flags | _MFD_EXEC)
    except OSError as e:
        if e.errno != errno.EINVAL:  # before Linux 6.3 every memfd is executable
            raise
        return os.memfd_create("rorqual", flags)
