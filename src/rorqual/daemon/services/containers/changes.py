"""diff: what a container has changed in its image's files: from its own overlayfs directory and those below, or, where
a storage driver keeps whole trees, by comparing the two.

Only directories are opened, by path beneath their layer, no link followed; a hostile tree can only make its own answer
long. Source: Engine API 1.56, ContainerChanges; overlayfs.rst (whiteouts, opaque directories).
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack

from rorqual.api.container import FilesystemChange
from rorqual.daemon.remote import Snapshots
from rorqual.daemon.services.containers.record import Container
from rorqual.daemon.services.images import initlayer, layering
from rorqual.daemon.services.images.stores import Lease
from rorqual.distribution.pack.compare import Kind, compare
from rorqual.errdefs import Error, NotImplementedHere, ResourceExhausted
from rorqual.linux import paths

MODIFIED, ADDED, DELETED = 0, 1, 2
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_KINDS = {Kind.MODIFIED: MODIFIED, Kind.ADDED: ADDED, Kind.DELETED: DELETED}
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
# An answer of a million entries is some 100 MB; a container may hold more files than that.
_CHANGES_MAX = 1_000_000


class ContainerChanges:
    """GET /containers/{id}/changes, with any storage driver."""

    def __init__(self, snapshots: Snapshots, lease: Lease) -> None:
        self._snapshots = snapshots
        self._lease = lease

    async def of(self, container: Container) -> list[FilesystemChange]:
        """All changes, parents first. Raises: as `changes`; NotImplementedHere for files out of reach; NotFound."""
        try:
            found = await self._of(container)
        except (OSError, Error):
            container.check_kept()
            raise
        container.check_kept()
        return found

    async def _of(self, container: Container) -> list[FilesystemChange]:
        mounts = await self._snapshots.mounts(container.snapshot_key)
        if (directories := layering.stacked(mounts)) is not None:
            return await asyncio.to_thread(changes, *directories)
        async with (
            self._lease.held() as lease,
            self._snapshots.beside_parent(container.snapshot_key, lease) as (parent, own),
        ):
            trees = layering.whole(parent, own)
            if trees is None:
                raise NotImplementedHere("diff needs a storage driver whose files are directories")
            return await asyncio.to_thread(compared, *trees)


def compared(old: str | None, new: str) -> list[FilesystemChange]:
    """As `changes`, of two whole trees; `old` None: all is new."""
    with ExitStack() as stack:
        after = layering.opened(new, stack)
        if old is None:
            return changes(new, [])
        before = layering.opened(old, stack)
        found = _Found()
        for change in compare(before, after, layering.rules(before, after)):
            found.tell(change.name, _KINDS[change.kind])
        return found.sorted()


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


class _Found:
    """The answer, as it grows."""

    def __init__(self) -> None:
        self._changes: list[FilesystemChange] = []
        self._told: set[bytes] = set()

    def tell(self, path: bytes, kind: int) -> None:
        """Add it; a directory that looks as before is told with the first change in it."""
        above = path.rpartition(b"/")[0]
        while above and above not in self._told:
            self._add(above, MODIFIED)
            above = above.rpartition(b"/")[0]
        if path not in self._told:
            self._add(path, kind)

    def _add(self, path: bytes, kind: int) -> None:
        self._told.add(path)
        if len(self._changes) >= _CHANGES_MAX:
            raise ResourceExhausted(f"more than {_CHANGES_MAX} changes")
        self._changes.append(FilesystemChange("/" + path.decode("utf-8", "replace"), kind))

    def sorted(self) -> list[FilesystemChange]:
        """Parents first, each directory's names sorted."""
        self._changes.sort(key=lambda change: change.path.split("/"))
        return self._changes


class _Walk:
    def __init__(self, upper: int, lowers: list[int]) -> None:
        self._upper = upper
        self._skip = initlayer.skipper(upper, lowers)
        self._found = _Found()
        # Directories to look into: path, and the layers below whose directory of that path is merged with it.
        self._waiting: list[tuple[bytes, list[int]]] = [(b"", lowers)]

    def run(self) -> list[FilesystemChange]:
        while self._waiting:
            self._directory(*self._waiting.pop())
        return self._found.sorted()

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
            self._found.tell(path, DELETED)
            return
        if self._skip(path, info):
            return
        old = _lookup(name, below)
        is_directory = stat.S_ISDIR(info.st_mode)
        if old is None:
            self._found.tell(path, ADDED)
        elif not (is_directory and stat.S_ISDIR(old.st_mode) and _looks_the_same(info, old)):
            self._found.tell(path, MODIFIED)
        if is_directory:
            self._waiting.append((path, self._merged(path, name, lowers, below)))

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
