"""An archive of images (docker save, OCI layout) read in one pass: layers go to the store as they come, documents stay.

    body -> [thread: decompress -> tar entries] -> JSON kept in memory, bounded
                                                -> everything that is a tar: Maker, which stores and unpacks it

Nothing of the archive is ever a path: names are keys of a table. Links inside the archive, as old engines write for a
layer that two images share, are followed in that table only.
"""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from rorqual.daemon.services.images.bridge import BodyReader, Bridge, Feed
from rorqual.daemon.services.images.making import MadeLayer
from rorqual.distribution.unpack import tar
from rorqual.distribution.unpack.decompress import CountedStream, reader
from rorqual.distribution.unpack.limits import DEFAULT_LIMITS
from rorqual.errdefs import DataLoss, InvalidArgument, ResourceExhausted
from rorqual.oci import mediatypes
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.digest import Digest

_PIECE_BYTES = 512 << 10
_MAX_ENTRIES = 100_000
# All documents together; one config is at most 16 MiB by itself.
_MAX_DOCUMENTS_BYTES = 64 << 20
_MAX_DOCUMENT_BYTES = 16 << 20
_MAX_LINKS = 8
_COMPRESSED = {b"\x1f\x8b\x08": mediatypes.OCI_LAYER_GZIP, b"\x28\xb5\x2f\xfd": mediatypes.OCI_LAYER_ZSTD}
_BLOBS = "blobs/"


class LayerMaker(Protocol):
    """What takes layers: services.images.making."""

    async def layer(self, pieces: AsyncIterator[bytes]) -> MadeLayer:
        """Of unknown digest."""

    async def blob(self, descriptor: Descriptor, pieces: AsyncIterator[bytes]) -> MadeLayer:
        """Byte for byte."""


# (name in the archive, bytes so far, bytes in all)
Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class Archive:
    """What was in it. `layers` end with `Maker.place` or `Maker.drop`."""

    documents: dict[str, bytes] = field(default_factory=dict)
    layers: dict[str, MadeLayer] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def resolve(self, name: str) -> str:
        """The entry that `name` means, links followed. Raises: InvalidArgument."""
        name = clean(name)
        for _ in range(_MAX_LINKS):
            if name in self.documents or name in self.layers or name not in self.links:
                return name
            name = self.links[name]
        raise InvalidArgument(f"invalid archive: too many links at {name!r}")

    def document(self, name: str) -> bytes | None:
        """Its bytes, None when there is none."""
        return self.documents.get(self.resolve(name))

    def blob(self, digest: str) -> bytes | None:
        """The document that an OCI layout has under `digest`, which was checked."""
        return self.documents.get(_BLOBS + digest.replace(":", "/", 1))


def clean(name: str) -> str:
    """A name of the archive in its one spelling. Raises: InvalidArgument for one that leads outside."""
    cleaned = posixpath.normpath(name)
    if name.startswith("/") or cleaned.startswith("../") or cleaned in ("..", ".") or "\0" in name:
        raise InvalidArgument(f"invalid archive: {name!r} leads out of it")
    return cleaned


async def read(body: AsyncIterator[bytes], maker: LayerMaker, progress: Progress) -> Archive:
    """The whole archive. What was made before a failure is in `layers` of nothing: the lease's end removes it.

    Raises: InvalidArgument, DataLoss, ResourceExhausted; what the maker raises.
    """
    bridge = Bridge()
    parser = _Parser(bridge, maker, progress)
    stream = BodyReader(bridge, body)
    try:
        await bridge.run(lambda: parser.run(stream))
        return await parser.finished()
    except BaseException:
        await parser.give_up()
        raise


class _Parser:
    """Runs in the thread, but for what the bridge calls."""

    def __init__(self, bridge: Bridge, maker: LayerMaker, progress: Progress) -> None:
        self._bridge = bridge
        self._maker = maker
        self._progress = progress
        self._archive = Archive()
        self._documents_bytes = 0
        self._tasks: dict[str, asyncio.Task[MadeLayer]] = {}
        self._made: list[asyncio.Task[MadeLayer]] = []

    def run(self, stream: BodyReader) -> None:
        source = CountedStream(stream)
        next_chunk = reader(source, _PIECE_BYTES)
        entries = tar.TarReader(tar.Feed(next_chunk), DEFAULT_LIMITS)
        count = 0
        for entry in entries:
            count += 1
            if count > _MAX_ENTRIES:
                raise ResourceExhausted(f"archive: more than {_MAX_ENTRIES} entries")
            if entry.kind == tar.DIRECTORY:
                continue
            name = clean(entry.name.decode("utf-8", "surrogateescape"))
            if entry.kind == tar.REGULAR and entry.sparse is None:
                self._regular(name, entry.stored, entries)
            elif entry.kind == tar.SYMLINK:
                target = entry.link.decode("utf-8", "surrogateescape")
                self._archive.links[name] = clean(posixpath.join(posixpath.dirname(name), target))
            elif entry.kind == tar.HARDLINK:
                self._archive.links[name] = clean(entry.link.decode("utf-8", "surrogateescape"))
            else:
                raise InvalidArgument(f"invalid archive: {name!r} is neither a file nor a link")
        if not count:
            raise InvalidArgument("invalid archive: it is empty")

    def _regular(self, name: str, size: int, entries: tar.TarReader) -> None:
        pieces = entries.data()
        head = b""
        while len(head) < min(size, tar.BLOCK):
            head += bytes(next(pieces))
        if _is_layer(head):
            self._layer(name, size, head, pieces)
            return
        self._documents_bytes += size
        if size > _MAX_DOCUMENT_BYTES or self._documents_bytes > _MAX_DOCUMENTS_BYTES:
            raise ResourceExhausted(f"archive: {name!r} is no layer and larger than a document may be")
        data = head + b"".join(pieces)
        digest = _digest_in(name)
        if digest and hashlib.new(digest.partition(":")[0], data).hexdigest() != digest.partition(":")[2]:
            raise DataLoss(f"invalid archive: content of {name!r} has another digest")
        self._archive.documents[name] = data

    def _layer(self, name: str, size: int, head: bytes, pieces: Iterator[memoryview]) -> None:
        feed = self._bridge.call(self._begin(name, size, head))
        self._bridge.call(feed.put(head))
        done = len(head)
        for piece in pieces:
            self._bridge.call(feed.put(bytes(piece)))
            done += len(piece)
            self._progress(name, done, size)
        self._bridge.call(feed.put(b""))

    async def _begin(self, name: str, size: int, head: bytes) -> Feed:
        for task in self._made:
            if task.done():
                # Raises: there is no use in reading on behind a layer that could not be stored.
                task.result()
        feed = Feed()
        pieces = aiter(feed)
        if digest := _digest_in(name):
            media_type = next((m for magic, m in _COMPRESSED.items() if head.startswith(magic)), mediatypes.OCI_LAYER)
            work = self._maker.blob(Descriptor(media_type, Digest(digest), size), pieces)
        else:
            work = self._maker.layer(pieces)
        task = asyncio.create_task(work, name=f"load {name}")
        task.add_done_callback(lambda _: feed.close())
        self._made.append(task)
        self._tasks[name] = task
        return feed

    async def finished(self) -> Archive:
        """Once every layer is stored."""
        for name, task in self._tasks.items():
            self._archive.layers[name] = await task
        return self._archive

    async def give_up(self) -> None:
        """Ends what is under way."""
        for task in self._made:
            task.cancel()
        await asyncio.gather(*self._made, return_exceptions=True)


def _is_layer(head: bytes) -> bool:
    """A tar, compressed or not; one block of zeros is an empty one."""
    if head.startswith(tuple(_COMPRESSED)) or head[257:262] == b"ustar":
        return True
    return len(head) == tar.BLOCK and not head.strip(b"\0")


def _digest_in(name: str) -> str:
    """`sha256:…` of `blobs/sha256/…`, "" for other names."""
    if not name.startswith(_BLOBS):
        return ""
    algorithm, _, encoded = name.removeprefix(_BLOBS).partition("/")
    lengths = {"sha256": 64, "sha512": 128}
    if lengths.get(algorithm) != len(encoded) or encoded.strip("0123456789abcdef"):
        return ""
    return f"{algorithm}:{encoded}"
