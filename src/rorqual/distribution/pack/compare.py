"""Two trees compared: what the newer one has added, changed and lost. For whoever has no layer of its own to look at.

Two entries are the same when type, owner, mode, time, size, link, device and xattrs are; equal whole-second times of
files count only when the bytes are equal too, as an unpacked or copied file has the archive's whole second. Names come
sorted, a directory before what is in it. By descriptor and without recursion: somebody hostile may have made the tree.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from enum import Enum

from rorqual.distribution.pack.headers import Member
from rorqual.distribution.pack.levels import Levels
from rorqual.distribution.pack.packer import Options, Packed, Packer, Write
from rorqual.errdefs import ResourceExhausted

Skip = Callable[[bytes, os.stat_result], bool]

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_COMPARE_BYTES = 1 << 20
_SECOND_NS = 1_000_000_000
_MAX_DEPTH = 100_000


class Kind(Enum):
    """What became of a name."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Change:
    """`name` is relative to the root. `whole`: a directory that is new with all below it."""

    name: bytes
    kind: Kind
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """`skip` hides names of the new tree. The times of `timeless` directories say nothing."""

    skip: Skip | None = None
    timeless: frozenset[bytes] = frozenset()


def compare(old: int, new: int, rules: Rules, *, links: _Links | None = None) -> Iterator[Change]:
    """The changes from the directory `old` to `new`, whose fds stay the caller's.

    Raises: Conflict for a directory that is moved meanwhile; ResourceExhausted for a tree that is too deep; OSError.
    """
    walk = _Walk(rules, links)
    with (
        closing(_Directory(old)) as left,
        Levels(os.dup(new), os.fstat(new), b"") as above,
    ):
        yield from walk.run(left.take(), above)


def pack_changes(old: int | None, new: int, write: Write, rules: Rules) -> Packed:
    """The changes as a layer: what is there now, and whiteouts. `old` None: all that is there. Raises as compare."""
    if old is None:
        packer = Packer(write, Options(skip=rules.skip))
        packer.tree(new)
        return packer.finish()
    found, links = _Found(), _Links()
    for change in compare(old, new, rules, links=links):
        found.note(change)
    for name in links.of_changed_files():
        found.note(Change(name, Kind.MODIFIED))
    packer = Packer(write, Options(skip=found.skip(rules.skip)))
    for name in found.gone:
        directory, slash, base = name.rpartition(b"/")
        packer.member(Member(directory + slash + b".wh." + base, mode=0))
    packer.tree(new)
    return packer.finish()


class _Links:
    """Files with several names: one that got a name is in the layer by its old ones too, to be one file there."""

    def __init__(self) -> None:
        self._unchanged: dict[tuple[int, int], list[bytes]] = {}
        self._changed: set[tuple[int, int]] = set()

    def note(self, name: bytes, info: os.stat_result, *, same: bool) -> None:
        key = (info.st_dev, info.st_ino)
        if same:
            self._unchanged.setdefault(key, []).append(name)
        else:
            self._changed.add(key)

    def of_changed_files(self) -> Iterator[bytes]:
        for key in self._changed & self._unchanged.keys():
            yield from self._unchanged[key]


class _Found:
    """Names: `changed` belong to the layer with the directories that lead to them, `whole` with all below."""

    def __init__(self) -> None:
        self.changed: set[bytes] = set()
        self.whole: set[bytes] = set()
        self.gone: list[bytes] = []

    def note(self, change: Change) -> None:
        name = change.name
        if change.kind is Kind.DELETED:
            self.gone.append(name)
            name = name.rpartition(b"/")[0]
        elif change.whole:
            self.whole.add(name)
            if name.rpartition(b"/")[0] in self.whole:
                return
        elif name.rpartition(b"/")[0] in self.whole:
            return  # comes with its directory
        while name and name not in self.changed:
            self.changed.add(name)
            name = name.rpartition(b"/")[0]

    def skip(self, hidden: Skip | None) -> Skip:
        """For Packer: a directory whose parent is written and that is not noted lies in a whole one, or is not."""

        def skip(name: bytes, info: os.stat_result) -> bool:
            if name in self.changed:
                return False
            parent = name.rpartition(b"/")[0]
            return parent not in self.whole or (hidden is not None and hidden(name, info))

        return skip


class _Directory:
    """An fd of our own until it is taken."""

    def __init__(self, fd: int) -> None:
        self._fd = os.dup(fd)

    def take(self) -> int:
        fd, self._fd = self._fd, -1
        return fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


class _Walk:
    def __init__(self, rules: Rules, links: _Links | None) -> None:
        self._links = links
        self._rules = rules

    def run(self, old: int, above: Levels) -> Iterator[Change]:
        """Takes `old` over."""
        with Levels(old, os.fstat(old), b"") as below:
            shared = 1  # so many of the innermost directories' ancestors, themselves included, are in both trees
            yield from self._gone(below, above)
            while (level := above.current()) is not None:
                if not level.names:
                    if above.depth == shared:
                        below.leave()
                        shared -= 1
                    above.leave()
                    continue
                name = level.names.pop()
                there = below.current() if above.depth == shared else None
                change, child, old_child = self._entry(level.fd, there.fd if there else -1, level.prefix, name)
                if change is not None:
                    yield change
                if child < 0:
                    continue
                if above.depth >= _MAX_DEPTH:
                    os.close(child)
                    if old_child >= 0:
                        os.close(old_child)
                    raise ResourceExhausted(f"{os.fsdecode(level.prefix + name)[:200]}: too many directories deep")
                above.enter(child, os.fstat(child), level.prefix + name + b"/")
                if old_child >= 0:
                    below.enter(old_child, os.fstat(old_child), level.prefix + name + b"/")
                    shared += 1
                    yield from self._gone(below, above)

    @staticmethod
    def _gone(below: Levels, above: Levels) -> Iterator[Change]:
        """Of the directory that both have just entered."""
        was, now = below.current(), above.current()
        assert was is not None and now is not None
        for name in sorted(set(was.names) - set(now.names)):
            yield Change(now.prefix + name, Kind.DELETED)
        was.names.clear()

    def _entry(self, new: int, old: int, prefix: bytes, name: bytes) -> tuple[Change | None, int, int]:
        """(the change, the directory to descend into and its old one, each -1 for none)."""
        whole = prefix + name
        try:
            now = os.stat(name, dir_fd=new, follow_symlinks=False)
        except FileNotFoundError:
            return None, -1, -1  # removed meanwhile
        then = _stat(name, old)
        is_directory = stat.S_ISDIR(now.st_mode)
        if is_directory and then is not None and stat.S_ISDIR(then.st_mode):
            return self._both_directories(new, old, whole, name)
        if self._rules.skip is not None and self._rules.skip(whole, now):
            return None, -1, -1
        same = then is not None and not is_directory and _same(old, new, name, then, now)
        if self._links is not None and now.st_nlink > 1 and not is_directory:
            self._links.note(whole, now, same=same)
        if same:
            return None, -1, -1
        kind = Kind.ADDED if then is None else Kind.MODIFIED
        child = os.open(name, _DIR, dir_fd=new) if is_directory else -1
        return Change(whole, kind, whole=is_directory), child, -1

    def _both_directories(self, new: int, old: int, whole: bytes, name: bytes) -> tuple[Change | None, int, int]:
        child = os.open(name, _DIR, dir_fd=new)
        try:
            before = os.open(name, _DIR, dir_fd=old)
        except BaseException:
            os.close(child)
            raise
        now, then = os.fstat(child), os.fstat(before)
        same = (now.st_mode, now.st_uid, now.st_gid) == (then.st_mode, then.st_uid, then.st_gid)
        if whole not in self._rules.timeless:
            same = same and now.st_mtime_ns // _SECOND_NS == then.st_mtime_ns // _SECOND_NS
        same = same and _xattrs(child) == _xattrs(before)
        return (None if same else Change(whole, Kind.MODIFIED)), child, before


def _stat(name: bytes, directory: int) -> os.stat_result | None:
    if directory < 0:
        return None
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _attributes(info: os.stat_result) -> tuple[int, ...]:
    size = info.st_size if stat.S_ISREG(info.st_mode) else 0
    return info.st_mode, info.st_uid, info.st_gid, size, info.st_mtime_ns, info.st_rdev


def _same(old: int, new: int, name: bytes, then: os.stat_result, now: os.stat_result) -> bool:
    if _attributes(then) != _attributes(now):
        return False
    if stat.S_ISLNK(now.st_mode):
        return os.readlink(name, dir_fd=old) == os.readlink(name, dir_fd=new)
    if not stat.S_ISREG(now.st_mode) or (then.st_dev, then.st_ino) == (now.st_dev, now.st_ino):
        return True
    with ExitStack() as stack:
        fds = []
        for directory in (old, new):
            fds.append(os.open(name, _FILE, dir_fd=directory))
            stack.callback(os.close, fds[-1])
        if _xattrs(fds[0]) != _xattrs(fds[1]):
            return False
        return now.st_mtime_ns % _SECOND_NS != 0 or _same_bytes(*fds)


def _same_bytes(one: int, other: int) -> bool:
    while (data := os.read(one, _COMPARE_BYTES)) == os.read(other, _COMPARE_BYTES):
        if not data:
            return True
    return False


def _xattrs(fd: int) -> dict[str, bytes]:
    try:
        return {key: os.getxattr(fd, key) for key in os.listxattr(fd) if not key.startswith("trusted.overlay.")}
    except OSError:
        return {}  # a file system without any
