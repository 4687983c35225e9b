"""New images: layers that are made here go into the store and onto disk in one pass, configs and manifests around them.

tar -> gzip -> ingest socket -> blob + sha256 + unpacked snapshot (in a worker of rorqual-containerd)
"""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rorqual.daemon.remote import Remote
from rorqual.daemon.services.clock import now_ns
from rorqual.daemon.services.images.blobfiles import BlobFiles
from rorqual.daemon.services.images.compress import gzipped, layer_stream
from rorqual.daemon.services.images.library import LocalImage
from rorqual.daemon.services.images.stores import MADE_PREFIX, Documents, Layers, Lease
from rorqual.daemon.services.pieces import nothing
from rorqual.distribution.stores import Layer
from rorqual.oci import image as images
from rorqual.oci import manifest as manifests
from rorqual.oci import mediatypes
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.digest import Digest
from rorqual.rpc.ingest import Request, Unpack, open_ingest

_GC = "containerd.io/gc.ref."
_UNCOMPRESSED = "containerd.io/uncompressed"


@dataclass(frozen=True, slots=True)
class MadeLayer:
    """A layer's blob, what it unpacks to, and the active snapshot `key` that holds that, until it is placed."""

    descriptor: Descriptor
    diff_id: Digest
    key: str


class Maker:
    """Everything is made under the lease, which the caller holds until a name keeps the image."""

    def __init__(self, remote: Remote, lease: Lease, ingest: Path) -> None:
        self._remote = remote
        self._lease = lease
        self._ingest = str(ingest)
        self._documents = Documents(remote, lease)
        self._layers = Layers(remote, ingest, lease)
        self._serial = itertools.count(1)

    async def layer(self, pieces: AsyncIterator[bytes]) -> MadeLayer:
        """The tar in `pieces`, however compressed, as a blob and unpacked. Raises: what unpacking raises.

        Place it, or drop it.
        """
        key = self._key()
        media_type, stream = await layer_stream(pieces)
        async with await open_ingest(self._ingest, self._request(key, "", 0, media_type)) as writer:
            async for piece in stream:
                await writer.write(piece)
            result = await writer.commit()
        return MadeLayer(Descriptor(media_type, Digest(result.digest), result.size), Digest(result.diff_id or ""), key)

    async def blob(self, descriptor: Descriptor, pieces: AsyncIterator[bytes]) -> MadeLayer:
        """The layer blob `descriptor`, stored byte for byte and unpacked; taken from the store when it is there.

        Raises: DataLoss when the bytes are others, what unpacking raises.
        """
        key = self._key()
        async with await open_ingest(
            self._ingest, self._request(key, descriptor.digest, descriptor.size, descriptor.media_type)
        ) as writer:
            existing = writer.existing is not None
            async for piece in pieces:
                if not existing:
                    await writer.write(piece)
            result = await writer.commit()
        return MadeLayer(descriptor, Digest(result.diff_id or ""), key)

    async def again(self, made: MadeLayer) -> MadeLayer:
        """The same layer, unpacked once more from its blob: for another place."""
        return await self.blob(made.descriptor, nothing())

    async def stored(self, descriptor: Descriptor) -> MadeLayer | None:
        """A layer whose blob is in the store, unpacked; None when it isn't."""
        if await self._remote.content.size(descriptor.digest) is None:
            return None
        return await self.blob(descriptor, nothing())

    def _key(self) -> str:
        return f"{MADE_PREFIX}{os.getpid()}-{now_ns()}-{next(self._serial)}"

    def _request(self, key: str, digest: str, size: int, media_type: str) -> Request:
        return Request(
            ns=self._remote.namespace,
            ref=key,
            digest=digest,
            size=size,
            media_type=media_type,
            lease=self._lease.id,
            unpack=Unpack(self._remote.snapshots.snapshotter, key),
        )

    async def placed(self, chain_id: Digest) -> bool:
        """Whether a snapshot of that name is there; held from then."""
        if not await self._remote.snapshots.exists(chain_id):
            return False
        await self._layers.hold(chain_id)
        return await self._remote.snapshots.exists(chain_id)

    async def place(self, made: MadeLayer, parent: Digest | None) -> Digest:
        """Puts the layer on top of the chain `parent`; the chain ID of both."""
        chain_id = images.chain_ids([parent, made.diff_id])[-1] if parent else made.diff_id
        await self._layers.adopt(Layer(made.descriptor, made.diff_id, chain_id, parent), made.key)
        return chain_id

    async def drop(self, made: MadeLayer) -> None:
        """Removes what was unpacked of a layer that is not placed; its blob ends with the lease."""
        await self._remote.snapshots.remove(made.key)

    async def compressed(self, image: LocalImage, blobs: BlobFiles) -> LocalImage:
        """The image with its layers as gzip, for registries; itself when there is nothing to compress.

        What came from a registry, and what an index names, stays as it is: its digest is known elsewhere.
        """
        manifest = image.manifest
        if image.target.digest != manifest.digest or not any(_is_plain(layer) for layer in manifest.layers):
            return image
        layers = [
            await self._gzipped(layer, diff_id, blobs)
            for layer, diff_id in zip(manifest.layers, image.image.diff_ids, strict=True)
        ]
        if layers == list(manifest.layers):
            return image
        made = manifests.build(manifest.media_type, manifest.config, layers)
        await self.store(image.image, made)
        return replace(image, manifest=made, target=made.descriptor)

    async def _gzipped(self, layer: Descriptor, diff_id: Digest, blobs: BlobFiles) -> Descriptor:
        if not _is_plain(layer) or await blobs.came_from_registry(layer):
            return layer
        key = self._key()
        docker = layer.media_type == mediatypes.DOCKER_LAYER
        media_type = mediatypes.DOCKER_LAYER_GZIP if docker else mediatypes.OCI_LAYER_GZIP
        request = Request(
            ns=self._remote.namespace,
            ref=key,
            digest="",
            media_type=media_type,
            labels={_UNCOMPRESSED: diff_id},
            lease=self._lease.id,
        )
        async with await open_ingest(self._ingest, request) as writer:
            async for piece in gzipped(blobs.pieces(layer)):
                await writer.write(piece)
            result = await writer.commit()
        return Descriptor(media_type, Digest(result.digest), result.size)

    async def image(
        self, config: bytes, layers: Sequence[Descriptor], media_type: str = mediatypes.OCI_MANIFEST
    ) -> LocalImage:
        """Config and manifest of layers that are here, in their places; the image has no name yet."""
        image = images.parse(config)
        docker = media_type == mediatypes.DOCKER_MANIFEST
        described = Descriptor(mediatypes.DOCKER_CONFIG if docker else mediatypes.OCI_CONFIG, image.digest, len(config))
        manifest = manifests.build(media_type, described, list(layers))
        await self.store(image, manifest)
        return LocalImage(image, manifest, manifest.descriptor)

    async def document(self, descriptor: Descriptor, raw: bytes, references: Mapping[str, str]) -> None:
        """One more document, with labels for what it needs."""
        await self._documents.put(descriptor, raw, references)

    async def store(self, image: images.Image, manifest: manifests.Manifest) -> None:
        """Both documents, with references to what they need."""
        top = image.chain_ids[-1] if image.chain_ids else None
        labels = {f"{_GC}snapshot.{self._remote.snapshots.snapshotter}": str(top)} if top else {}
        await self._documents.put(manifest.config, image.raw, labels)
        await self._documents.put(manifest.descriptor, manifest.raw, content_references(manifest))


def content_references(manifest: manifests.Manifest) -> dict[str, str]:
    """containerd's labels from a manifest to its config and layers."""
    labels = {f"{_GC}content.config": str(manifest.config.digest)}
    return labels | {f"{_GC}content.l.{n}": str(layer.digest) for n, layer in enumerate(manifest.layers)}


def _is_plain(layer: Descriptor) -> bool:
    return layer.media_type in (mediatypes.OCI_LAYER, mediatypes.DOCKER_LAYER)
