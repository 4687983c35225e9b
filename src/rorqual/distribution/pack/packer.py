"""The tree below a directory fd as a tar.

Another process may change the tree meanwhile (a running container, a hostile one), so nothing is opened by a path:
each name is opened once with O_PATH | O_NOFOLLOW below its directory's fd, looked at through that fd, and read through
it too. Only what then is a regular file or a directory is opened for reading: opening a device can act (a watchdog),
opening a FIFO can block. What vanishes is left out, what shrinks is filled up with zeros, what grows is cut.
Source: open(2), path_resolution(7).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from rorqual.distribution.pack import sparse
from rorqual.distribution.pack.headers import (
    BLOCK,
    BLOCKDEV,
    CHAR,
    DIRECTORY,
    END,
    FIFO,
    HARDLINK,
    REGULAR,
    SYMLINK,
    Member,
    encode,
    encode_sparse,
)
from rorqual.distribution.pack.levels import Level, Levels
from rorqual.errdefs import Conflict, ResourceExhausted

# Takes the next bytes of the tar; what it raises ends the packing.
Write = Callable[[bytes], object]

_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# Small writes are gathered to this size, large files read in pieces of it.
_PIECE_BYTES = 512 << 10
_MAX_NAME_BYTES = 4096
_MAX_DEPTH = 1024
_KINDS = {stat.S_IFCHR: CHAR, stat.S_IFBLK: BLOCKDEV, stat.S_IFIFO: FIFO, stat.S_IFLNK: SYMLINK}
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
# Overlayfs's own bookkeeping, in both spellings (userxattr).
_OVERLAY = (b"trusted.overlay.", b"user.overlay.")
# Labels of this host's security modules stay out: they mean nothing elsewhere.
_KEPT_XATTRS = (b"user.", b"trusted.", b"system.posix_acl_")
_CAPABILITY = b"security.capability"


@dataclass(frozen=True, slots=True)
class Options:
    """`whiteouts`: "overlay" reads an overlayfs upper directory and writes OCI whiteouts; "plain" takes all as it is.

    `owner` maps (uid, gid) of the disk to those of the tar. With `sparse`, holes worth it are not stored. What `skip`
    says yes to (name in the tar, without a trailing slash; its stat) is left out, a directory with all in it. With
    `mounts`, other file systems that are mounted in the tree are part of it. `shape` may change what a member says.
    """

    whiteouts: Literal["plain", "overlay"] = "plain"
    owner: Callable[[int, int], tuple[int, int]] | None = None
    sparse: bool = True
    skip: Callable[[bytes, os.stat_result], bool] | None = None
    mounts: bool = False
    shape: Callable[[Member], None] | None = None


@dataclass(frozen=True, slots=True)
class Packed:
    """`size` in bytes of the tar, `entries` in it."""

    size: int
    entries: int


class Packer:
    """One tar. Trees, files and made-up members in any order, then `finish`. One thread at a time."""

    def __init__(self, write: Write, options: Options | None = None) -> None:
        self._write = write
        self._options = options or Options()
        self._overlay = self._options.whiteouts == "overlay"
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._links: dict[tuple[int, int], bytes] = {}
        self.size = 0
        self.entries = 0

    # ---- what a caller adds ----

    def tree(self, dir_fd: int, prefix: bytes = b"") -> None:
        """All below `dir_fd` (a directory, which stays the caller's) as `prefix/…`, `prefix/` itself too if not empty.

        Directories on other file systems are taken without what is in them, unless Options.mounts says otherwise. The
        prefix `/` makes the names absolute.

        Raises: OSError, ResourceExhausted (too deep), Conflict (overlayfs features that a layer cannot express, or a
        tree that is moved about while it is read), what `write` raises.
        """
        fd = os.open(b".", _READ | os.O_DIRECTORY, dir_fd=dir_fd)
        try:
            info = os.fstat(fd)
            absolute, prefix = prefix == b"/", prefix.strip(b"/")
            if prefix or absolute:
                self._directory(fd, info, prefix)
            elif self._overlay and _is_opaque(fd, self._xattrs(fd)[0]):
                self._header(Member(_OPAQUE, mode=0))
        except BaseException:
            os.close(fd)
            raise
        self._walk(fd, info, prefix + b"/" if prefix or absolute else b"")

    def contents(self, dir_fd: int, prefix: bytes) -> None:
        """As `tree`, without an entry for `prefix` itself."""
        fd = os.open(b".", _READ | os.O_DIRECTORY, dir_fd=dir_fd)
        self._walk(fd, os.fstat(fd), prefix + b"/" if prefix else b"")

    def path(self, dir_fd: int, name: bytes, as_name: bytes) -> None:
        """`name`, one component below `dir_fd`, as `as_name`: a file, or a directory with all below it.

        Raises: FileNotFoundError; as `tree`.
        """
        fd = os.open(name, _PATH, dir_fd=dir_fd)
        try:
            info = os.fstat(fd)
            if stat.S_ISDIR(info.st_mode):
                self.tree(fd, as_name)
            else:
                self._entry(fd, info, as_name)
        finally:
            os.close(fd)

    def member(self, member: Member, data: bytes = b"") -> None:
        """A made-up member with its data, whose length becomes its size."""
        member.size = len(data)
        self._put(encode(member))
        if data:
            self._put(data)
            self._put(bytes(-len(data) % BLOCK))
        self.entries += 1

    def file(self, member: Member, pieces: Iterator[bytes]) -> None:
        """A member whose `size` bytes come in pieces. Raises: Conflict when they are more or fewer."""
        self._put(encode(member))
        self.entries += 1
        left = member.size
        for piece in pieces:
            left -= len(piece)
            if left < 0:
                break
            self._put(piece)
        if left:
            raise Conflict(f"{os.fsdecode(member.name)}: {member.size} bytes were promised, {-left:+d} came")
        self._put(bytes(-member.size % BLOCK))

    def finish(self) -> Packed:
        """Writes the end of the archive."""
        self._put(END)
        self._flush()
        return Packed(self.size, self.entries)

    # ---- the walk ----

    def _walk(self, fd: int, info: os.stat_result, prefix: bytes) -> None:
        """Everything below `fd`, depth first, each directory's names sorted; takes `fd` over."""
        device = info.st_dev
        with Levels(fd, info, prefix) as levels:
            while (level := levels.current()) is not None:
                if not level.names:
                    levels.leave()
                    continue
                name = level.names.pop()
                step = self._step(level, name)
                if step is None:
                    continue
                child, child_info = step
                if child_info.st_dev != device and not self._options.mounts:
                    os.close(child)
                    continue
                if levels.depth >= _MAX_DEPTH:
                    os.close(child)
                    raise ResourceExhausted(f"{_show(level.prefix + name)}: more than {_MAX_DEPTH} directories deep")
                levels.enter(child, child_info, level.prefix + name + b"/")

    def _step(self, level: Level, name: bytes) -> tuple[int, os.stat_result] | None:
        """One name of a directory; a directory's open fd, its entry written, None for everything else."""
        whole = level.prefix + name
        try:
            fd = os.open(name, _PATH, dir_fd=level.fd)
        except FileNotFoundError:
            return None  # removed while the directory was read
        try:
            info = os.fstat(fd)
            if self._options.skip is not None and self._options.skip(whole, info):
                return None
            if not stat.S_ISDIR(info.st_mode):
                self._entry(fd, info, whole)
                return None
            if self._overlay and name.startswith(_WHITEOUT):
                return None  # in a layer it would hide what it is named after
            readable = os.open(b"/proc/self/fd/%d" % fd, _READ | os.O_DIRECTORY)
        finally:
            os.close(fd)
        try:
            self._directory(readable, info, whole)
        except BaseException:
            os.close(readable)
            raise
        return readable, info

    def _directory(self, fd: int, info: os.stat_result, name: bytes) -> None:
        keys, xattrs = self._xattrs(fd)
        self._check_overlay(name, keys)
        self._header(self._member(info, name + b"/", DIRECTORY, xattrs))
        if self._overlay and _is_opaque(fd, keys):
            self._header(Member(name + b"/" + _OPAQUE, mode=0))

    def _entry(self, fd: int, info: os.stat_result, name: bytes) -> None:
        """Anything but a directory; `fd` is an O_PATH one."""
        kind = stat.S_IFMT(info.st_mode)
        if self._overlay:
            directory, _, base = name.rpartition(b"/")
            if kind == stat.S_IFCHR and info.st_rdev == 0:
                whiteout = _WHITEOUT + base
                self._header(Member(directory + b"/" + whiteout if directory else whiteout, mode=0))
                return
            if base.startswith(_WHITEOUT):
                return  # in a layer it would hide what it is named after
        if info.st_nlink > 1 and kind != stat.S_IFSOCK:
            first = self._links.setdefault((info.st_dev, info.st_ino), name)
            if first is not name:
                member = self._member(info, name, HARDLINK, {})
                member.link = first
                self._header(member)
                return
        if kind == stat.S_IFREG:
            self._regular(fd, info, name)
        elif kind in _KINDS:  # sockets are not: tar has no type for them
            self._special(fd, info, name, _KINDS[kind])

    def _special(self, fd: int, info: os.stat_result, name: bytes, kind: bytes) -> None:
        # By way of /proc, which leads to the file itself: an O_PATH fd has no xattr calls before Linux 6.13.
        _, xattrs = self._xattrs(b"/proc/self/fd/%d" % fd)
        member = self._member(info, name, kind, xattrs)
        if kind == SYMLINK:
            member.link = os.readlink(b"", dir_fd=fd)
        elif kind != FIFO:
            member.major, member.minor = os.major(info.st_rdev), os.minor(info.st_rdev)
        self._header(member)

    def _regular(self, path_fd: int, info: os.stat_result, name: bytes) -> None:
        fd = os.open(b"/proc/self/fd/%d" % path_fd, _READ)
        try:
            keys, xattrs = self._xattrs(fd)
            self._check_overlay(name, keys)
            member = self._member(info, name, REGULAR, xattrs)
            member.size = info.st_size
            parts = sparse.parts(fd, info) if self._options.sparse else None
            if parts is not None:
                header, padding = encode_sparse(member, parts)
                self._put(header)
                self.entries += 1
                for offset, length in parts:
                    self._data(fd, offset, length)
                self._put(bytes(padding))
                return
            self._header(member)
            if member.size:
                self._data(fd, 0, member.size)
                self._put(bytes(-member.size % BLOCK))
        finally:
            os.close(fd)

    def _data(self, fd: int, offset: int, length: int) -> None:
        """`length` bytes from `offset`; zeros for what is not there any more."""
        end = offset + length
        while offset < end:
            piece = os.pread(fd, min(_PIECE_BYTES, end - offset), offset)
            if not piece:
                piece = bytes(min(_PIECE_BYTES, end - offset))
            offset += len(piece)
            self._put(piece)

    # ---- fields ----

    def _member(self, info: os.stat_result, name: bytes, kind: bytes, xattrs: dict[bytes, bytes]) -> Member:
        if len(name) > _MAX_NAME_BYTES:
            raise ResourceExhausted(f"{_show(name)}: a name of more than {_MAX_NAME_BYTES} bytes")
        uid, gid = info.st_uid, info.st_gid
        if self._options.owner is not None:
            uid, gid = self._options.owner(uid, gid)
        mtime_s = info.st_mtime_ns // 1_000_000_000
        member = Member(name, kind, stat.S_IMODE(info.st_mode), uid, gid, 0, mtime_s, b"", 0, 0, xattrs)
        if self._options.shape is not None:
            self._options.shape(member)
        return member

    @staticmethod
    def _xattrs(target: int | bytes) -> tuple[list[bytes], dict[bytes, bytes]]:
        """All names, and the attributes that go into the tar."""
        try:
            keys = [os.fsencode(key) for key in os.listxattr(target)]
        except OSError as error:
            if error.errno in (errno.ENOTSUP, errno.EACCES, errno.ENOENT):
                return [], {}
            raise
        found: dict[bytes, bytes] = {}
        for key in keys:
            if key == _CAPABILITY or (key.startswith(_KEPT_XATTRS) and not key.startswith(_OVERLAY)):
                try:
                    found[key] = os.getxattr(target, key)
                except OSError as error:
                    if error.errno != errno.ENODATA:
                        raise
        return keys, found

    def _check_overlay(self, name: bytes, keys: list[bytes]) -> None:
        """Raises: Conflict for what an upper directory says about lower ones that whiteouts cannot say."""
        if not self._overlay or not keys:
            return
        for key in keys:
            if key.startswith(_OVERLAY) and key.rpartition(b".")[2] in (b"redirect", b"metacopy", b"whiteout"):
                raise Conflict(f"{_show(name)}: overlayfs attribute {os.fsdecode(key)} cannot be expressed in a layer")

    # ---- output ----

    def _header(self, member: Member) -> None:
        self._put(encode(member))
        self.entries += 1

    def _put(self, data: bytes) -> None:
        if not data:
            return
        self.size += len(data)
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes >= _PIECE_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
            self._pending.clear()
            self._pending_bytes = 0
            self._write(data)


def _is_opaque(fd: int, keys: list[bytes]) -> bool:
    return any(
        key.startswith(_OVERLAY) and key.endswith(b".opaque") and os.getxattr(fd, key)[:1] == b"y" for key in keys
    )


def _show(name: bytes) -> str:
    text = name[:200].decode("utf-8", "backslashreplace")
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text) + '"'
