"""What a pull needs of the outside: where layers, documents and names are put. The daemon implements these over
containerd; tests in memory.

Everything may be called concurrently. The caller of a pull keeps what it makes from garbage collection (a lease) until
the pull has returned.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from rorqual.oci.descriptor import Descriptor
from rorqual.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer at its place in an image: the blob, what it must unpack to, its chain ID and that of the one below."""

    descriptor: Descriptor
    diff_id: Digest
    chain_id: Digest
    parent: Digest | None


class LayerWriter(Protocol):
    """One blob on its way to the content store and, unpacked, to a snapshot. Ends with `commit` or `abort`, once."""

    @property
    def offset(self) -> int:
        """Bytes of the blob that are there already: the first `write` continues here."""

    @property
    def complete(self) -> bool:
        """The blob is wholly there: nothing need be written before `commit`."""

    async def write(self, data: bytes) -> None:
        """Takes the next bytes, waiting while the disk is behind.

        Raises: the error that `commit` would raise, when the other side gave up early.
        """

    async def commit(self) -> Digest:
        """The diff ID of what was unpacked, once digest and size of the blob were checked and all is on disk.

        Raises: DataLoss when the blob is not what its descriptor says (it was dropped then); what unpacking raises.
        """

    async def abort(self) -> None:
        """Gives up; the bytes so far are kept to resume from. Idempotent, does not raise."""


class LayerSink(Protocol):
    """Snapshots, named by chain IDs."""

    async def has(self, layer: Layer) -> bool:
        """Whether the snapshot of the chain ID is there, and the blob."""

    async def open(self, layer: Layer) -> LayerWriter:
        """Begins (or resumes) to fetch and unpack the layer."""

    async def commit(self, layer: Layer) -> None:
        """Names the unpacked layer its chain ID on top of `parent`, which is there. Fine when it is there already."""

    async def discard(self, layer: Layer) -> None:
        """Removes what was unpacked of a layer that will not be committed. Idempotent, does not raise."""


class ContentStore(Protocol):
    """Documents: manifests, indexes, configs."""

    async def get(self, digest: Digest) -> bytes | None:
        """The blob's bytes, None when it is not there."""

    async def put(self, descriptor: Descriptor, data: bytes, labels: Mapping[str, str]) -> None:
        """Stores a checked document with `labels` (garbage collection follows them); fine when it is there already."""


class Origins(Protocol):
    """What is known of where blobs came from."""

    async def origins(self, descriptor: Descriptor, host: str) -> list[str]:
        """Repositories (paths) of the registry `host` that the blob was in."""

    async def note_origin(self, descriptor: Descriptor, host: str, path: str) -> None:
        """Remembers that the repository `path` of `host` has the blob; fine when the blob is not here any more."""


class BlobSource(Origins, Protocol):
    """What a push reads."""

    def pieces(self, descriptor: Descriptor, offset: int = 0) -> AsyncIterator[bytes]:
        """The blob's bytes from `offset`. Raises: NotFound."""


class ImageStore(Protocol):
    """Names, whole and normalised: `docker.io/library/busybox:latest`."""

    async def get(self, name: str) -> Digest | None:
        """The digest of what the name points at, None when there is no such name."""

    async def stands_for(self, name: str, manifest: Digest) -> bool:
        """Whether the name is known to stand for that manifest, perhaps beside others of an index."""

    async def put(self, name: str, target: Descriptor) -> None:
        """Makes the name point at `target`, a manifest or an index, and stand for what is here of it."""
