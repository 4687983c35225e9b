"""Network namespaces that live without a process: made, kept by a bind mount, and removed.

A new namespace costs 0.3 ms and its mount 0.02 ms, so there is no pool of ready ones. The thread that makes it joins it
for a moment (unshare(2) acts on the calling thread only) and goes back; so it must be a thread of the caller's own,
never the event loop's.

The directory of the mounts is a mount of its own, unbindable: private, so that no other mount namespace gets copies by
propagation, and left out when a container binds the host's `/` recursively, which would keep namespaces alive.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from rorqual.linux.netlink import RtNetlink

CLONE_NEWNET = 0x40000000
MS_BIND, MS_UNBINDABLE = 4096, 1 << 17
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
PR_SET_NAME = 15

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_libc.unshare.argtypes = [ctypes.c_int]
_libc.setns.argtypes = [ctypes.c_int, ctypes.c_int]
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}", what)


def name_thread(name: str) -> None:
    """Set the calling thread's comm (at most 15 bytes): nftables notifications carry it."""
    _check(_libc.prctl(PR_SET_NAME, name.encode(), 0, 0, 0), "prctl")


class NamespaceDir:
    """`<exec root>/netns`. Its methods are for one thread, in the network namespace that is the host's to it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._host_fd = -1

    def open(self) -> None:
        """Make the directory and its mount, once; take hold of the calling thread's namespace."""
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        own = os.path.realpath(self.path)
        if not _is_mount_point(own):
            _check(_libc.mount(own.encode(), own.encode(), None, MS_BIND, None), f"bind mount {own}")
        _check(_libc.mount(None, own.encode(), None, MS_UNBINDABLE, None), f"make {own} unbindable")
        self._host_fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of the host's namespace. The mounts stay: containers live in them."""
        if self._host_fd >= 0:
            os.close(self._host_fd)
            self._host_fd = -1

    @property
    def host_fd(self) -> int:
        """The host's namespace, open."""
        return self._host_fd

    def path_of(self, name: str) -> str:
        return f"{self.path}/{name}"

    @contextmanager
    def create(self, name: str) -> Iterator[None]:
        """Make the namespace `name`; the body of the `with` runs inside it. A failing body removes it again."""
        path = self.path_of(name)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            _check(_libc.unshare(CLONE_NEWNET), "unshare(CLONE_NEWNET)")
            try:
                source = b"/proc/thread-self/ns/net"
                _check(_libc.mount(source, path.encode(), None, MS_BIND, None), f"bind mount {path}")
                yield
            finally:
                self._enter(self._host_fd, "the host's network namespace")
        except BaseException:
            self.remove(name)
            raise

    @contextmanager
    def opened(self, name: str) -> Iterator[int]:
        """An fd of the namespace `name`, for as long as the body runs."""
        fd = os.open(self.path_of(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def entered(self, fd: int) -> Iterator[None]:
        """The calling thread is in the namespace of `fd` while the body runs: its sockets are opened there, and
        /proc/sys/net is that namespace's."""
        self._enter(fd, "a sandbox")
        try:
            yield
        finally:
            self._enter(self._host_fd, "the host's network namespace")

    @staticmethod
    def _enter(fd: int, what: str) -> None:
        _check(_libc.setns(fd, CLONE_NEWNET), f"setns to {what}")

    def netlink(self, fd: int) -> RtNetlink:
        """A netlink socket that configures the namespace of `fd`, wherever its user is."""
        with self.entered(fd):
            return RtNetlink()

    def exists(self, name: str) -> bool:
        """Whether `name` is a namespace, not just the file that one was mounted on before a reboot."""
        try:
            return os.stat(self.path_of(name)).st_dev != os.stat(self.path).st_dev
        except FileNotFoundError:
            return False

    def names(self) -> list[str]:
        return os.listdir(self.path)

    def remove(self, name: str) -> None:
        """Unmount and unlink; nothing to do where it is gone. The kernel ends the namespace, and the veth pairs in it,
        asynchronously once no process or open file holds it."""
        path = self.path_of(name)
        _unmounted(path)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return

    def remove_all(self) -> None:
        """Remove every namespace, and the directory with its mount."""
        for name in self.names():
            self.remove(name)
        _unmounted(self.path)
        os.rmdir(self.path)


def _unmounted(path: str) -> bool:
    """Unmount whatever is stacked on `path`; True when there was something."""
    found = False
    while _libc.umount2(path.encode(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0:
        found = True
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOENT):  # EINVAL: nothing is mounted there
        raise OSError(code, f"umount {path}: {os.strerror(code)}", path)
    return found


def _is_mount_point(path: str) -> bool:
    """Reads mountinfo: a bind mount of a directory onto itself has its parent's device, so stat cannot tell."""
    with open("/proc/thread-self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        escaped = path.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011").replace("\n", "\\012")
        return any(line.split(" ", 5)[4] == escaped for line in table)
