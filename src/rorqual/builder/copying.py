"""COPY and ADD: sources of a context or of another stage's files become the tar of a layer, in one pass.

    sources (patterns below a root fd) + destination (looked at in the image's root) -> Copy -> pack(write) | digest()

Every path is opened below its root by fd: a link in a context or in an image leads nowhere else. The tar has only what
is copied and the directories that are missing above it, so that nothing has to be compared afterwards.
Source: Dockerfile reference, "COPY" and "ADD"; texts of errors as moby's builder/dockerfile.
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rorqual import patterns
from rorqual.distribution.pack import Member, Options, Packed, Packer, Write
from rorqual.distribution.pack.headers import DIRECTORY
from rorqual.errdefs import InvalidArgument, NotFound
from rorqual.linux import paths
from rorqual.patterns import Ignore

_NOT_COPIED = (stat.S_IFBLK, stat.S_IFCHR, stat.S_IFSOCK)
_MATCHES_MAX = 100_000
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
_MAGIC_AT = 257


@dataclass(frozen=True, slots=True)
class Source:
    """Files below `root`, an O_PATH fd: a path, or a pattern of paths. What `ignored` leaves out is not there."""

    root: int
    path: str
    ignored: Ignore | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A file that no directory has: a here-document."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom the copies belong to."""

    uid: int
    gid: int


@dataclass(slots=True)
class Item:
    """`name` below the directory `fd`, "" for all that is in it; `path` from its root, `target` in the tar."""

    fd: int
    name: str
    path: str
    target: str
    ignored: Ignore | None


@dataclass(slots=True)
class Copy:
    """What to pack: `parents` are directories to be made. Close it when it is packed.

    `owner` None: root's, unless `keep_owner`; `mode` None: as it is. `excluded` are patterns below each source.
    """

    parents: tuple[str, ...] = ()
    items: list[Item] = field(default_factory=list)
    made: list[tuple[Made, str]] = field(default_factory=list)
    owner: Owner | None = None
    keep_owner: bool = False
    mode: int | None = None
    excluded: Ignore | None = None

    def pack(self, write: Write) -> Packed:
        """The layer's tar, in a thread. Raises: OSError, what packing raises."""
        return self._pack(write, self._shape)

    def digest(self) -> str:
        """Of names, kinds, modes, owners, links and bytes; times are left out. In a thread."""
        hashed = hashlib.sha256()

        def shape(member: Member) -> None:
            self._shape(member)
            member.mtime_s = 0

        self._pack(hashed.update, shape)
        return hashed.hexdigest()

    def close(self) -> None:
        """Let go of the sources. Again is no error."""
        items, self.items = self.items, []
        for item in items:
            os.close(item.fd)

    def _shape(self, member: Member) -> None:
        owner = self.owner or (None if self.keep_owner else Owner(0, 0))
        if owner is not None:
            member.uid, member.gid = owner.uid, owner.gid
        if self.mode is not None:
            member.mode = self.mode

    def _pack(self, write: Write, shape: Callable[[Member], None]) -> Packed:
        chosen: list[Item] = []
        packer = Packer(
            write, Options(mounts=True, shape=shape, skip=lambda name, info: self._skipped(chosen, name, info))
        )
        owner = self.owner or Owner(0, 0)
        for parent in self.parents:
            packer.member(Member(os.fsencode(parent) + b"/", DIRECTORY, 0o755, owner.uid, owner.gid))
        for item in self.items:
            chosen[:] = [item]
            if item.name:
                packer.path(item.fd, os.fsencode(item.name), os.fsencode(item.target))
            else:
                packer.contents(item.fd, os.fsencode(item.target))
        for one, target in self.made:
            member = Member(os.fsencode(target))
            shape(member)
            packer.member(member, one.data)
        return packer.finish()

    def _skipped(self, chosen: list[Item], name: bytes, info: os.stat_result) -> bool:
        # In a layer it would take away what it is named after; a device or a pipe of a context is nothing to copy.
        if name.rpartition(b"/")[2].startswith(b".wh.") or stat.S_IFMT(info.st_mode) in _NOT_COPIED:
            return True
        (item,) = chosen
        below = os.fsdecode(name)[len(item.target) :].lstrip("/")
        whole = posixpath.join(item.path, below).strip("/")
        if item.ignored is not None and item.ignored.hides(whole, directory=stat.S_ISDIR(info.st_mode)):
            return True
        return self.excluded is not None and self.excluded.hides(below, directory=stat.S_ISDIR(info.st_mode))


def plan(
    sources: Sequence[Source],
    made: Sequence[Made],
    destination: str,
    target_root: int | None,
    *,
    what: str = "COPY",
    into: bool = False,
    keep_parents: bool = False,
) -> Copy:
    """Where everything goes. `destination` is absolute, its last slash kept; `target_root` None for an empty image.

    `into`: it is a directory, whatever it looks like. `keep_parents`: sources keep the directories of their names, from
    the pivot `/./` on where there is one. In a thread. Raises: NotFound, InvalidArgument with Docker's texts. The
    caller closes the Copy.
    """
    found = [(source, path) for source in sources for path in _found(source, what)]
    if not found and not made:
        raise NotFound(f"{what} failed: no source files were specified")
    if len(found) + len(made) > 1 and not (into or destination.endswith("/")):
        raise InvalidArgument(
            f"When using {what} with more than one source file, the destination must be a directory and end with a /"
        )
    real, exists, is_directory = _looked_at(target_root, destination)
    inside = into or keep_parents or destination.endswith("/") or (exists and is_directory)
    copy = Copy()
    kept: set[str] = set()
    try:
        for source, path in found:
            beneath = posixpath.join(real, _kept(source, path)) if keep_parents else ""
            fd = paths.open_in_root(source.root, path.lstrip("/") or ".", os.O_PATH, waits=True)
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                kept.add(beneath)
                copy.items.append(Item(fd, "", path, (beneath or real).lstrip("/"), source.ignored))
                inside = True
                continue
            os.close(fd)
            kept.add(posixpath.dirname(beneath))
            target = beneath or (posixpath.join(real, posixpath.basename(path)) if inside else real)
            parent, name = _opened_parent(source.root, path)
            copy.items.append(Item(parent, name, path, target.lstrip("/"), None))
        for one in made:
            copy.made.append((one, (posixpath.join(real, one.name) if inside else real).lstrip("/")))
        if inside and exists and not is_directory:
            raise InvalidArgument(f"cannot copy to non-directory: {real}")
        needed = [real if inside else posixpath.dirname(real), *sorted(kept - {""})]
        copy.parents = tuple(dict.fromkeys(name for path in needed for name in missing(target_root, path)))
    except BaseException:
        copy.close()
        raise
    return copy


def _kept(source: Source, path: str) -> str:
    """What of a path below the root its copy keeps: all, or what follows the pivot `/./` of its source."""
    before, pivot, _ = source.path.partition("/./")
    start = posixpath.normpath("/" + before) if pivot else "/"
    return posixpath.relpath(path, start)


def directory(destination: str, target_root: int | None) -> Copy:
    """The directory itself, with what is missing above it; nothing when it is there. Raises: as plan."""
    real, exists, is_directory = _looked_at(target_root, destination)
    if exists and not is_directory:
        raise InvalidArgument(f"cannot copy to non-directory: {real}")
    return Copy(parents=missing(target_root, real))


def _opened_parent(root: int, source: str) -> tuple[int, str]:
    """(fd of the directory that holds the file, its name there), links of the path followed."""
    real = paths.resolved_in_root(root, source)
    directory, name = posixpath.split(real)
    return paths.open_in_root(root, directory.lstrip("/") or ".", os.O_PATH | os.O_DIRECTORY, waits=True), name


def _looked_at(root: int | None, destination: str) -> tuple[str, bool, bool]:
    """(the destination with its links followed, whether it is there, whether it is a directory)."""
    if root is None:
        return posixpath.normpath(destination), destination == "/", True
    real = paths.resolved_in_root(root, destination)
    try:
        fd = paths.open_in_root(root, real.lstrip("/") or ".", os.O_PATH, waits=True)
    except FileNotFoundError:
        return real, False, False
    except NotADirectoryError as e:
        raise InvalidArgument(f"cannot copy to non-directory: {posixpath.dirname(real)}") from e
    try:
        return real, True, stat.S_ISDIR(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def missing(root: int | None, path: str) -> tuple[str, ...]:
    """The directories of `path` that are not there, from the top."""
    names = [name for name in path.split("/") if name]
    wanted = ["/".join(names[:end]) for end in range(1, len(names) + 1)]
    if root is None:
        return tuple(wanted)
    for number, directory in enumerate(wanted):
        try:
            os.close(paths.open_in_root(root, directory, os.O_PATH | os.O_DIRECTORY, waits=True))
        except FileNotFoundError:
            return tuple(wanted[number:])
        except NotADirectoryError as e:
            raise InvalidArgument(f"cannot copy to non-directory: /{directory}") from e
    return ()


# ---- sources ----


def is_archive(root: int, source: str) -> bool:
    """Whether ADD unpacks it: a regular file that begins as a tar does, or as a compressed one."""
    cleaned = posixpath.normpath("/" + source)
    try:
        fd = paths.open_in_root(root, cleaned.lstrip("/") or ".", os.O_RDONLY | os.O_NONBLOCK, waits=True)
    except OSError:
        return False  # told when it is copied
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return False
        head = os.pread(fd, 512, 0)
    finally:
        os.close(fd)
    return head.startswith(_COMPRESSED) or head[_MAGIC_AT : _MAGIC_AT + 5] == b"ustar"


def _found(source: Source, what: str) -> list[str]:
    """The paths below the root that a source means, absolute."""
    cleaned = posixpath.normpath("/" + source.path)
    if patterns.is_pattern(cleaned):
        found = _matching(source.root, cleaned)
        return [path for path in found if source.ignored is None or not source.ignored.leaves_out(path.lstrip("/"))]
    hidden = source.ignored is not None and cleaned != "/" and source.ignored.leaves_out(cleaned.lstrip("/"))
    flags = os.O_PATH | (os.O_DIRECTORY if source.path.endswith("/") else 0)
    try:
        if hidden and not (source.ignored is not None and source.ignored.exceptions):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        os.close(paths.open_in_root(source.root, cleaned.lstrip("/") or ".", flags, waits=True))
    except OSError as e:
        if e.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        raise NotFound(
            f"{what} failed: file not found in build context or excluded by .dockerignore: stat "
            f"{source.path.lstrip('/')}: file does not exist"
        ) from e
    return [cleaned]


def _matching(root: int, pattern: str) -> list[str]:
    found = [""]
    for name in pattern.strip("/").split("/"):
        if not patterns.is_pattern(name):
            found = [f"{parent}/{name}" for parent in found if _there(root, f"{parent}/{name}")]
            continue
        rule = patterns.match(name)
        found = [f"{parent}/{entry}" for parent in found for entry in _names(root, parent) if rule.match(entry)]
        if len(found) > _MATCHES_MAX:
            raise InvalidArgument(f"{pattern}: more than {_MATCHES_MAX} files")
    return found


def _there(root: int, path: str) -> bool:
    try:
        os.close(paths.open_in_root(root, path.lstrip("/"), os.O_PATH | os.O_NOFOLLOW, waits=True))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _names(root: int, directory: str) -> list[str]:
    try:
        fd = paths.open_in_root(root, directory.lstrip("/") or ".", os.O_RDONLY | os.O_DIRECTORY, waits=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)
