"""Blobs of the content store, read from their files where this daemon can see them, else by gRPC.

rorqual-containerd and the daemon share the data root; a blob's file never changes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from rorqual.daemon.remote import Content
from rorqual.errdefs import InvalidArgument, NotFound
from rorqual.oci import digest as digests
from rorqual.oci.descriptor import Descriptor

_PIECE_BYTES = 1 << 20
# containerd's own label, so that its clients mount across repositories too.
_SOURCE_LABEL = "containerd.io/distribution.source."
_MAX_ORIGINS = 8
_MAX_LABEL_BYTES = 4096


class BlobFiles:
    """`root`: the directory with blobs/<algorithm>/<hex>, None when it is another machine's or engine's."""

    def __init__(self, content: Content, root: Path | None) -> None:
        self._content = content
        self._root = root

    async def pieces(self, descriptor: Descriptor, offset: int = 0) -> AsyncIterator[bytes]:
        """The blob from `offset`, in pieces of at most 1 MiB. Raises: NotFound."""
        fd = self._open(descriptor)
        if fd is None:
            async for piece in self._content.chunks(descriptor.digest):
                if offset >= len(piece):
                    offset -= len(piece)
                    continue
                yield piece[offset:]
                offset = 0
            return
        try:
            while piece := await asyncio.to_thread(os.pread, fd, _PIECE_BYTES, offset):
                offset += len(piece)
                yield piece
        finally:
            os.close(fd)

    async def origins(self, descriptor: Descriptor, host: str) -> list[str]:
        """See distribution.stores.BlobSource."""
        try:
            labels = await self._content.labels(descriptor.digest)
        except NotFound:
            return []
        return [path for path in labels.get(_SOURCE_LABEL + host, "").split(",") if path]

    async def repositories(self, digest: str) -> list[str]:
        """The whole names of all repositories that the blob is known to be in, sorted."""
        try:
            labels = await self._content.labels(digest)
        except NotFound:
            return []
        found = {
            f"{label.removeprefix(_SOURCE_LABEL)}/{path}"
            for label, paths in labels.items()
            if label.startswith(_SOURCE_LABEL)
            for path in paths.split(",")
            if path
        }
        return sorted(found)

    async def came_from_registry(self, descriptor: Descriptor) -> bool:
        """Whether some registry has the blob under this digest."""
        try:
            labels = await self._content.labels(descriptor.digest)
        except NotFound:
            return False
        return any(label.startswith(_SOURCE_LABEL) for label in labels)

    async def note_origin(self, descriptor: Descriptor, host: str, path: str) -> None:
        """See distribution.stores.BlobSource."""
        known = await self.origins(descriptor, host)
        if path in known:
            return
        label = _SOURCE_LABEL + host
        # The newest first: a registry is asked for one after the other.
        value = ",".join([path, *known][:_MAX_ORIGINS])
        if len(label) + len(value) > _MAX_LABEL_BYTES:
            value = path
        try:
            await self._content.set_labels(descriptor.digest, {label: value})
        except (NotFound, InvalidArgument):
            return  # removed meanwhile, or no name that a label can hold

    def _open(self, descriptor: Descriptor) -> int | None:
        if self._root is None:
            return None
        # Parsed, so it can be nothing but a name.
        digest = digests.parse(descriptor.digest)
        path = self._root / "blobs" / digests.algorithm(digest) / digests.encoded(digest)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        if os.fstat(fd).st_size != descriptor.size:
            os.close(fd)
            return None
        return fd
