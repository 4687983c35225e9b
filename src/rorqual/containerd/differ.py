"""What a snapshot has changed, as a layer blob. Runs in a worker process; writes one file, mounts nothing anywhere.

    right over left's own directories (overlayfs)  ->  the directory on top, its whiteouts made OCI's
    any two trees                                  ->  compared entry by entry, what differs and what is gone

Two files are the same when type, owner, mode, size, time, link, device and xattrs are; equal whole-second times count
only when the bytes are equal too. Source: containerd.services.diff.v1; image-spec layer.md, "Change Types".
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from rorqual.distribution.pack import Member, Options, Packer
from rorqual.errdefs import InvalidArgument
from rorqual.linux import mount as kernel

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
_PLAIN = ("application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar")
_ZSTD = ("application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.docker.image.rootfs.diff.tar.zstd")
_GZIP = (GZIP, "application/vnd.docker.image.rootfs.diff.tar.gzip")
_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_COMPARE_BYTES = 1 << 20
_GZIP_WINDOW = 31


@dataclass(frozen=True, slots=True)
class Mounted:
    """One mount of a snapshot, as containerd's messages have it."""

    type: str
    source: str
    options: tuple[str, ...]

    def layers(self) -> list[str]:
        """The directories that it merges, the uppermost first. Raises InvalidArgument for another type."""
        if self.type == "bind":
            return [self.source]
        if self.type != "overlay":
            raise InvalidArgument(f"diff: a bind or overlay mount is needed, not {self.type}")
        values = dict(option.partition("=")[::2] for option in self.options)
        upper = [values["upperdir"]] if "upperdir" in values else []
        return upper + values.get("lowerdir", "").split(":")

    def open(self) -> int:
        """An fd of the tree; a merge is a mount that is attached nowhere and ends with the fd."""
        if self.type == "bind":
            return os.open(self.source, _DIR)
        layers = self.layers()
        if len(layers) == 1:
            return os.open(layers[0], _DIR)
        fd = kernel.new_filesystem("overlay", tuple(("lowerdir+", layer) for layer in layers))
        try:
            return os.open(".", _DIR, dir_fd=fd)
        finally:
            os.close(fd)


def _media_type_of(asked: str) -> str:
    """The layer's. Raises InvalidArgument for one that cannot be made."""
    if asked and asked not in (*_PLAIN, *_ZSTD, *_GZIP):
        raise InvalidArgument(f"unsupported diff media type: {asked}")
    return asked or GZIP


def diff(left: Sequence[Mounted], right: Sequence[Mounted], media_type: str, path: str) -> dict[str, Any]:
    """Write the layer to `path`: {"digest", "diff_id", "size", "media_type"}. Raises InvalidArgument, OSError."""
    if len(right) != 1 or len(left) > 1:
        raise InvalidArgument(f"diff: one mount each is supported, not {len(left)} and {len(right)}")
    with open(path, "wb") as file:
        media_type = _media_type_of(media_type)
        writer = _Writer(file, media_type)
        _pack(left[0] if left else None, right[0], writer)
        return {**writer.finish(), "media_type": media_type}


def _pack(left: Mounted | None, right: Mounted, writer: _Writer) -> None:
    below = left.layers() if left is not None else []
    above = right.layers()
    with ExitStack() as stack:
        if right.type == "overlay" and above[1:] == [layer for layer in below if layer]:
            # the top directory is the difference
            fd = os.open(above[0], _DIR)
            stack.callback(os.close, fd)
            packer = Packer(writer.write, Options(whiteouts="overlay"))
            packer.tree(fd)
            packer.finish()
            return
        new = right.open()
        stack.callback(os.close, new)
        if left is None:
            packer = Packer(writer.write)
            packer.tree(new)
            packer.finish()
            return
        old = left.open()
        stack.callback(os.close, old)
        changes = _Changes()
        _compare(old, new, b"", changes)
        packer = Packer(writer.write, Options(skip=changes.skip))
        for name in changes.gone:
            directory, slash, base = name.rpartition(b"/")
            packer.member(Member(directory + slash + b".wh." + base, mode=0))
        packer.tree(new)
        packer.finish()


class _Changes:
    """Names, relative to the root: `whole` are new with all below, `changed` are to be there themselves."""

    def __init__(self) -> None:
        self.whole: set[bytes] = set()
        self.changed: set[bytes] = set()
        self.gone: list[bytes] = []

    def note(self, name: bytes) -> None:
        """`name` changed: it and the directories that lead to it belong to the layer."""
        while name and name not in self.changed:
            self.changed.add(name)
            name = name.rpartition(b"/")[0]

    def skip(self, name: bytes, info: os.stat_result) -> bool:
        """For Packer."""
        if name in self.changed:
            return False
        directory = name
        while directory:
            if directory in self.whole:
                return False
            directory = directory.rpartition(b"/")[0]
        return True


def _compare(old: int, new: int, prefix: bytes, changes: _Changes) -> None:
    names = {os.fsencode(name) for name in os.listdir(new)}
    for name in sorted({os.fsencode(name) for name in os.listdir(old)} - names):
        changes.gone.append(prefix + name)
        changes.note(prefix.rstrip(b"/"))
    for name in names:
        whole = prefix + name
        now = os.stat(name, dir_fd=new, follow_symlinks=False)
        try:
            then = os.stat(name, dir_fd=old, follow_symlinks=False)
        except FileNotFoundError:
            changes.whole.add(whole)
            changes.note(whole)
            continue
        if stat.S_ISDIR(now.st_mode) and stat.S_ISDIR(then.st_mode):
            with ExitStack() as stack:
                fds = [os.open(name, _DIR, dir_fd=old)]
                stack.callback(os.close, fds[0])
                fds.append(os.open(name, _DIR, dir_fd=new))
                stack.callback(os.close, fds[1])
                if _attributes(then) != _attributes(now) or _xattrs(fds[0]) != _xattrs(fds[1]):
                    changes.note(whole)
                _compare(fds[0], fds[1], whole + b"/", changes)
        elif not _same(old, new, name, then, now):
            if stat.S_ISDIR(now.st_mode):
                changes.whole.add(whole)
            changes.note(whole)


def _attributes(info: os.stat_result) -> tuple[int, ...]:
    if stat.S_ISDIR(info.st_mode):  # its time changes with what is in it
        return info.st_mode, info.st_uid, info.st_gid
    size = info.st_size if stat.S_ISREG(info.st_mode) else 0
    return info.st_mode, info.st_uid, info.st_gid, size, info.st_mtime_ns, info.st_rdev


def _same(old: int, new: int, name: bytes, then: os.stat_result, now: os.stat_result) -> bool:
    if _attributes(then) != _attributes(now):
        return False
    if stat.S_ISLNK(now.st_mode):
        return os.readlink(name, dir_fd=old) == os.readlink(name, dir_fd=new)
    if not stat.S_ISREG(now.st_mode):
        return True
    if (then.st_dev, then.st_ino) == (now.st_dev, now.st_ino):
        return True
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with ExitStack() as stack:
        fds = []
        for directory in (old, new):
            fds.append(os.open(name, flags, dir_fd=directory))
            stack.callback(os.close, fds[-1])
        if _xattrs(fds[0]) != _xattrs(fds[1]):
            return False
        # an unpacked or copied file has the archive's whole second: another write in that second looks the same
        return now.st_mtime_ns % 1_000_000_000 != 0 or all(a == b for a, b in zip(*map(_pieces, fds), strict=True))


def _pieces(fd: int) -> Iterator[bytes]:
    while data := os.read(fd, _COMPARE_BYTES):
        yield data


def _xattrs(fd: int) -> dict[str, bytes]:
    try:
        return {key: os.getxattr(fd, key) for key in os.listxattr(fd) if not key.startswith("trusted.overlay.")}
    except OSError:
        return {}  # a file system without any


class _Encoder(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Writer:
    """The tar on its way to the file: hashed, compressed, hashed."""

    def __init__(self, file: Any, media_type: str) -> None:
        self._file = file
        self._encoder = _encoder(media_type)
        self._plain = hashlib.sha256()
        self._packed = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> None:
        """For Packer."""
        self._plain.update(data)
        self._put(self._encoder.compress(data) if self._encoder is not None else data)

    def finish(self) -> dict[str, Any]:
        """What it became."""
        if self._encoder is not None:
            self._put(self._encoder.flush())
        self._file.flush()
        return {
            "digest": f"sha256:{self._packed.hexdigest()}",
            "diff_id": f"sha256:{self._plain.hexdigest()}",
            "size": self._size,
        }

    def _put(self, data: bytes) -> None:
        self._packed.update(data)
        self._file.write(data)
        self._size += len(data)


def _encoder(media_type: str) -> _Encoder | None:
    if media_type in _PLAIN:
        return None
    if media_type in _ZSTD:
        import zstandard

        return zstandard.ZstdCompressor().compressobj()
    from isal import isal_zlib

    encoder: _Encoder = isal_zlib.compressobj(1, isal_zlib.DEFLATED, _GZIP_WINDOW)
    return encoder
