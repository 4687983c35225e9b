"""diff: what a container has changed in its image's files, from its own overlayfs directory and those below.

Only directories are opened, by path beneath their layer, no link followed; a hostile tree can only make its own answer
long. Source: Engine API 1.56, ContainerChanges; overlayfs.rst (whiteouts, opaque directories).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from rorqual.api.container import FilesystemChange
from rorqual.daemon.remote import Mount
from rorqual.daemon.services.images import initlayer
from rorqual.errdefs import NotImplementedHere, ResourceExhausted
from rorqual.linux import paths

MODIFIED, ADDED, DELETED = 0, 1, 2
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
# An answer of a million entries is some 100 MB; a container may hold more files than that.
_CHANGES_MAX = 1_000_000


def directories(mounts: Sequence[Mount]) -> tuple[str, list[str]]:
    """The container's own directory and those below it, the uppermost first.

    Raises: NotImplementedHere for a storage driver whose snapshots are whole copies.
    """
    if len(mounts) == 1 and mounts[0].type == "overlay":
        options = dict(option.partition("=")[::2] for option in mounts[0].options)
        if "upperdir" in options:
            return options["upperdir"], [lower for lower in options.get("lowerdir", "").split(":") if lower]
    if len(mounts) == 1 and mounts[0].type == "bind" and "/snapshots/overlayfs/" in mounts[0].source:
        return mounts[0].source, []  # an image without layers: all that is there is the container's
    raise NotImplementedHere("diff needs a storage driver that keeps a container's changes apart (overlay2)")


def changes(upper: str, lowers: Sequence[str]) -> list[FilesystemChange]:
    """All changes, parents first, each directory's names sorted.

    Raises: OSError; ResourceExhausted for more than a million.
    """
    fds = [paths.open_root(upper)]
    try:
        fds += [paths.open_root(lower) for lower in lowers]
        return _Walk(fds[0], fds[1:]).run()
    finally:
        for fd in fds:
            os.close(fd)


class _Walk:
    def __init__(self, upper: int, lowers: list[int]) -> None:
        self._upper = upper
        self._skip = initlayer.skipper(upper, lowers)
        self._found: list[FilesystemChange] = []
        self._told: set[bytes] = set()  # directories that are in the answer
        # Directories to look into: path, and the layers below whose directory of that path is merged with it.
        self._waiting: list[tuple[bytes, list[int]]] = [(b"", lowers)]

    def run(self) -> list[FilesystemChange]:
        while self._waiting:
            self._directory(*self._waiting.pop())
        self._found.sort(key=lambda change: change.path.split("/"))
        return self._found

    def _directory(self, path: bytes, lowers: list[int]) -> None:
        fd = paths.open_beneath(self._upper, path or b".", _DIRECTORY)
        below = [_open(lower, path) for lower in lowers]
        try:
            for name in map(os.fsencode, os.listdir(fd)):
                info = os.stat(name, dir_fd=fd, follow_symlinks=False)
                whole = path + b"/" + name if path else name
                self._entry(whole, name, info, lowers, below)
        finally:
            for each in (fd, *below):
                if each >= 0:
                    os.close(each)

    def _entry(self, path: bytes, name: bytes, info: os.stat_result, lowers: list[int], below: Sequence[int]) -> None:
        if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
            self._tell(path, DELETED)
            return
        if self._skip(path, info):
            return
        old = _lookup(name, below)
        is_directory = stat.S_ISDIR(info.st_mode)
        if old is None:
            self._tell(path, ADDED)
        elif not (is_directory and stat.S_ISDIR(old.st_mode) and _looks_the_same(info, old)):
            self._tell(path, MODIFIED)
        if is_directory:
            self._waiting.append((path, self._merged(path, name, lowers, below)))

    def _tell(self, path: bytes, kind: int) -> None:
        """Add it; a directory that looks as before is told with the first change in it."""
        parent = path.rpartition(b"/")[0]
        if parent and parent not in self._told:
            self._tell(parent, MODIFIED)
        self._told.add(path)
        if len(self._found) >= _CHANGES_MAX:
            raise ResourceExhausted(f"more than {_CHANGES_MAX} changes")
        self._found.append(FilesystemChange("/" + path.decode("utf-8", "replace"), kind))

    def _merged(self, path: bytes, name: bytes, lowers: list[int], below: Sequence[int]) -> list[int]:
        """The layers below whose directory of that path is seen through this one's."""
        if _is_opaque(self._upper, path):
            return []
        found: list[int] = []
        for lower, fd in zip(lowers, below, strict=True):
            if fd < 0:
                continue
            try:
                info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(info.st_mode):
                break
            found.append(lower)
            if _is_opaque(lower, path):
                break
        return found


def _open(layer: int, path: bytes) -> int:
    try:
        return paths.open_beneath(layer, path or b".", _DIRECTORY)
    except OSError:
        return -1


def _lookup(name: bytes, below: Sequence[int]) -> os.stat_result | None:
    """The entry that the layers below had, None for none."""
    for fd in below:
        if fd < 0:
            continue
        try:
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        return None if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0 else info
    return None


def _looks_the_same(new: os.stat_result, old: os.stat_result) -> bool:
    """A directory is in the container's own as soon as something in it is; its size says nothing across layers."""
    same_time = new.st_mtime_ns // 10**9 == old.st_mtime_ns // 10**9
    return same_time and (new.st_mode, new.st_uid, new.st_gid) == (old.st_mode, old.st_uid, old.st_gid)


def _is_opaque(layer: int, path: bytes) -> bool:
    fd = _open(layer, path)
    if fd < 0:
        return False
    try:
        return any(name in _OPAQUE and os.getxattr(fd, name)[:1] == b"y" for name in os.listxattr(fd))
    except OSError:
        return False  # a file system without xattrs has no opaque directories
    finally:
        os.close(fd)
