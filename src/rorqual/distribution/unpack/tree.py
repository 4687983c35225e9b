"""A directory that is being filled, held by fd: every name is resolved beneath it by the kernel, never by strings.

Parents are opened with openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV), so a link that was unpacked
earlier can lead to another place in the layer but never out of it (CVE-2025-47290), and kept open: most entries of a
tar lie in the directory of the one before. Source: openat2(2).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from rorqual.errdefs import InvalidArgument, NotImplementedHere
from rorqual.linux import paths, removal

_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Open parents kept at once; a process has 1024 fds by default.
_MAX_OPEN = 64
_MAX_LINKS = 40


def openat2_dir(root_fd: int, path: bytes, *, mounts: bool = False) -> int:
    """An fd of the directory `path` resolved with `root_fd` as its root, with `mounts` across mount points too.

    Raises: OSError; NotImplementedHere on kernels before 5.6.
    """
    resolve = paths.RESOLVE_IN_ROOT | paths.RESOLVE_NO_MAGICLINKS | (0 if mounts else paths.RESOLVE_NO_XDEV)
    try:
        return paths.openat2(root_fd, path or b".", _DIR_FLAGS, resolve=resolve, waits=True)
    except OSError as e:
        if e.errno == errno.ENOSYS:
            raise NotImplementedHere("unpacking needs openat2, Linux 5.6 or later") from e
        raise


class Tree:
    """The directory and its open parents. Paths are bytes, relative, clean (`usr/bin`; b"" is the root)."""

    def __init__(
        self,
        dir_fd: int,
        max_name_bytes: int,
        max_depth: int,
        made: Callable[[int, bytes], None],
        *,
        below: bytes = b"",
        mounts: bool = False,
    ) -> None:
        """`dir_fd` stays the caller's; any kind of directory fd. `made(parent, name)` hears of implied directories.

        Names are those below the directory `below` of it; links are still resolved with `dir_fd` as the root.
        """
        self.root = os.open(b".", _DIR_FLAGS, dir_fd=dir_fd)
        self._max_name_bytes = max_name_bytes
        self._max_depth = max_depth
        self._made = made
        self._below = below.strip(b"/")
        self._mounts = mounts
        self._open: dict[bytes, int] = {}
        # Directories made because a name went through them, without an entry of their own, in the order of making.
        self.implied: dict[bytes, None] = {}

    def close(self) -> None:
        self.forget()
        os.close(self.root)

    def forget(self) -> None:
        """Drops the open parents: a directory or link was removed, so a path may lead elsewhere now."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def clean(self, name: bytes) -> bytes:
        """The relative path that `name` means; `..` stops at the root, as containerd does.

        Raises: InvalidArgument when it is too long or too deep.
        """
        if len(name) > self._max_name_bytes:
            raise InvalidArgument(f"name of {len(name)} bytes, at most {self._max_name_bytes} are allowed")
        if b"\0" in name:
            raise InvalidArgument("name with a NUL byte")
        parts: list[bytes] = []
        for part in name.split(b"/"):
            if part == b"..":
                if parts:
                    parts.pop()
            elif part and part != b".":
                parts.append(part)
        if len(parts) > self._max_depth:
            raise InvalidArgument(f"name of {len(parts)} components, at most {self._max_depth} are allowed")
        return b"/".join(parts)

    def split(self, name: bytes, *, make: bool = True) -> tuple[int, bytes]:
        """The fd of the parent of `name` and its last component, b"" for the root itself.

        The fd is good until the next call on this object. A missing parent is made with `make`.

        Raises: OSError; InvalidArgument for a name that is too long or too deep.
        """
        if name[-1:] == b"/":
            name = name.rstrip(b"/")
        head, _, base = name.rpartition(b"/")
        if base in (b"", b".", b".."):
            name = self.clean(name)
            head, _, base = name.rpartition(b"/")
            if not base:
                return self.root, b""
        fd = self._open.get(head)
        if fd is None:
            if len(name) > self._max_name_bytes:
                raise InvalidArgument(f"name of {len(name)} bytes, at most {self._max_name_bytes} are allowed")
            path = b"/".join(filter(None, (self._below, self.clean(head))))
            fd = self._keep(head, self._make(path, 0) if make else self._directory(path))
        return fd, base

    def adopt(self, name: bytes, fd: int) -> None:
        """Takes over `fd`, the directory `name`, which has its own entry: those in it are what comes next."""
        if self.implied:
            self.implied.pop(b"/".join(filter(None, (self._below, self.clean(name)))), None)
        self._keep(name.rstrip(b"/"), fd)

    def _keep(self, key: bytes, fd: int) -> int:
        old = self._open.pop(key, None)
        if old is not None:
            os.close(old)
        elif len(self._open) >= _MAX_OPEN:
            os.close(self._open.pop(next(iter(self._open))))
        self._open[key] = fd
        return fd

    def _make(self, path: bytes, links: int) -> int:
        """An fd of directory `path`, made with its parents (0755) where missing."""
        try:
            return self._directory(path)
        except FileNotFoundError:
            if not path:
                raise
        head, _, base = path.rpartition(b"/")
        parent = self._make(head, links)
        try:
            os.mkdir(base, 0o755, dir_fd=parent)
            self.implied[path] = None
            self._made(parent, base)
        except FileExistsError:
            # A link to what does not exist yet, such as var/run -> /run: make that.
            target = os.readlink(base, dir_fd=parent)
            if links >= _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
            whole = target if target[:1] == b"/" else head + b"/" + target
            os.close(self._make(self.clean(whole), links + 1))
        finally:
            os.close(parent)
        return self._directory(path)

    def _directory(self, path: bytes) -> int:
        return openat2_dir(self.root, path, mounts=self._mounts)


def remove(parent: int, name: bytes) -> int:
    """Removes `name`, a directory with all that is in it, never following a link; the mode of what was removed.

    Raises: OSError.
    """
    mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    if not stat.S_ISDIR(mode):
        os.unlink(name, dir_fd=parent)
        return mode
    removal.remove_tree(name, dir_fd=parent)
    return mode
