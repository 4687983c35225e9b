"""What a snapshot has changed, as a layer blob. Runs in a worker process; writes one file, mounts nothing anywhere.

    right over left's own directories (overlayfs)  ->  the directory on top, its whiteouts made OCI's
    any two trees                                  ->  compared entry by entry (distribution.pack.compare)

Source: containerd.services.diff.v1; image-spec layer.md, "Change Types".
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from rorqual.distribution.pack import Options, Packer
from rorqual.distribution.pack.compare import Rules, pack_changes
from rorqual.errdefs import InvalidArgument
from rorqual.linux import mount as kernel

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
_PLAIN = ("application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar")
_ZSTD = ("application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.docker.image.rootfs.diff.tar.zstd")
_GZIP = (GZIP, "application/vnd.docker.image.rootfs.diff.tar.gzip")
_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
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
        old = left.open() if left is not None else None
        if old is not None:
            stack.callback(os.close, old)
        pack_changes(old, new, writer.write, Rules())


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
