"""The manifests behind a name, one by one: platforms and attestations, here or not.

Source: Engine API ImageManifestSummary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from rorqual.api.image import (
    AttestationData,
    Identity,
    ImageData,
    ImageDataSize,
    ManifestSize,
    ManifestSummary,
    OCIDescriptor,
    OCIPlatform,
    PullIdentity,
)
from rorqual.daemon.services.images.library import LocalImage
from rorqual.daemon.services.images.service import Usage
from rorqual.daemon.services.images.sizes import Sizes
from rorqual.errdefs import Error, NotFound
from rorqual.oci import image as images
from rorqual.oci import manifest as manifests
from rorqual.oci import mediatypes
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.manifest import Index, Manifest
from rorqual.oci.platform import Platform


class Content(Protocol):
    """containerd's content store."""

    async def read(self, digest: str, limit: int) -> bytes:
        """A blob. Raises: NotFound."""

    async def size(self, digest: str) -> int | None:
        """Bytes of a blob, None when it isn't here."""


class Sources(Protocol):
    """What is known of where blobs came from: blobfiles.BlobFiles."""

    async def repositories(self, digest: str) -> list[str]:
        """Whole names of the repositories that have a blob."""


class ManifestViews:
    """Reads the store."""

    def __init__(self, content: Content, sources: Sources, sizes: Sizes, usage: Usage) -> None:
        self._content = content
        self._sources = sources
        self._sizes = sizes
        self._usage = usage

    async def identity(self, image: LocalImage) -> Identity | None:
        """Where the image comes from; None when nothing is known."""
        names = await self._sources.repositories(image.target.digest)
        return Identity(tuple(map(PullIdentity, names))) if names else None

    async def of(self, image: LocalImage, *, identity: bool = False) -> tuple[ManifestSummary, ...]:
        """One for each entry of the index, or for the only manifest; with where the image comes from if asked."""
        found = await self._all(image)
        origin = await self.identity(image) if identity else None
        if origin is None:
            return found
        return tuple(
            replace(one, image_data=replace(one.image_data, identity=origin))
            if one.image_data is not None and one.available
            else one
            for one in found
        )

    async def _all(self, image: LocalImage) -> tuple[ManifestSummary, ...]:
        if image.target.media_type not in mediatypes.INDEXES:
            return (await self._one(image.manifest.descriptor, image),)
        raw = await self._content.read(image.target.digest, manifests.MAX_MANIFEST_BYTES)
        index = manifests.parse(raw, image.target.media_type)
        if not isinstance(index, Index):
            return ()
        return tuple([await self._one(entry, image) for entry in index.manifests])

    async def _one(self, entry: Descriptor, image: LocalImage) -> ManifestSummary:
        for variant in image.variants:
            if entry.digest == variant.manifest.digest:
                await self._sizes.learn([variant.image])
                return self._own(entry, variant)
        is_attestation = manifests.is_attestation(entry)
        manifest = await self._manifest(entry)
        content = await self._content_bytes(manifest, entry)
        unpacked = 0
        platform = entry.platform
        if manifest is not None and not is_attestation:
            config = await self._config(manifest)
            if config is not None:
                await self._sizes.learn([config])
                unpacked = self._sizes.image(config)
                platform = platform or config.platform
        available = manifest is not None and await self._available(manifest)
        descriptor = described(entry)
        size = ManifestSize(content + unpacked, content)
        if is_attestation:
            data = AttestationData(entry.annotations.get(manifests.REFERENCE_DIGEST, ""))
            return ManifestSummary(entry.digest, descriptor, available, size, "attestation", attestation_data=data)
        image_data = ImageData(_platform(platform), (), ImageDataSize(unpacked))
        return ManifestSummary(entry.digest, descriptor, available, size, "image", image_data=image_data)

    def _own(self, entry: Descriptor, image: LocalImage) -> ManifestSummary:
        """Of a manifest that the image is: all of it is here, so nothing need be asked."""
        content = entry.size + image.size
        unpacked = self._sizes.image(image.image)
        descriptor = described(entry)
        containers = tuple(id for id, _ in self._usage.using(image.id))
        data = ImageData(_platform(entry.platform or image.image.platform), containers, ImageDataSize(unpacked))
        return ManifestSummary(
            entry.digest, descriptor, True, ManifestSize(content + unpacked, content), "image", image_data=data
        )

    async def _manifest(self, entry: Descriptor) -> Manifest | None:
        try:
            document = manifests.parse(
                await self._content.read(entry.digest, manifests.MAX_MANIFEST_BYTES), entry.media_type
            )
        except (NotFound, Error):
            return None
        return document if isinstance(document, Manifest) else None

    async def _config(self, manifest: Manifest) -> images.Image | None:
        try:
            return images.parse(await self._content.read(manifest.config.digest, images.MAX_CONFIG_BYTES))
        except Error:
            return None

    async def _content_bytes(self, manifest: Manifest | None, entry: Descriptor) -> int:
        if manifest is None:
            return 0
        sizes = [await self._content.size(blob.digest) or 0 for blob in (manifest.config, *manifest.layers)]
        return entry.size + sum(sizes)

    async def _available(self, manifest: Manifest) -> bool:
        for blob in (manifest.config, *manifest.layers):
            if await self._content.size(blob.digest) is None:
                return False
        return True


def described(entry: Descriptor) -> OCIDescriptor:
    """A descriptor as the API shows it."""
    return OCIDescriptor(
        entry.media_type,
        entry.digest,
        entry.size,
        annotations=dict(entry.annotations) or None,
        platform=_platform(entry.platform),
    )


def _platform(platform: Platform | None) -> OCIPlatform | None:
    if platform is None:
        return None
    return OCIPlatform(
        platform.architecture, platform.os, platform.os_version, platform.os_features or None, platform.variant
    )


async def complete_manifests(content: Content, target: Descriptor) -> tuple[Index | None, tuple[Manifest, ...]]:
    """The index `target` and every manifest in it; None when any of them, or a blob of one, is not here."""
    index = manifests.parse(await content.read(target.digest, manifests.MAX_MANIFEST_BYTES), target.media_type)
    if not isinstance(index, Index):
        return None, ()
    found: list[Manifest] = []
    for entry in index.manifests:
        document = await manifest_here(content, entry)
        if document is None:
            return None, ()
        found.append(document)
    return index, tuple(found)


async def attestations_here(content: Content, target: Descriptor, digests: Sequence[str]) -> list[Manifest]:
    """The attestations that the index `target` has of the manifests `digests`, so far as they are wholly here."""
    index = manifests.parse(await content.read(target.digest, manifests.MAX_MANIFEST_BYTES), target.media_type)
    if not isinstance(index, Index):
        return []
    found: list[Manifest] = []
    for digest in digests:
        for entry in manifests.attestations_of(index, digest):
            document = await manifest_here(content, entry)
            if document is not None:
                found.append(document)
    return found


async def manifest_here(content: Content, entry: Descriptor) -> Manifest | None:
    """The manifest of an index's entry; None when it, or a blob of it, is not here."""
    try:
        raw = await content.read(entry.digest, manifests.MAX_MANIFEST_BYTES)
    except NotFound:
        return None
    document = manifests.parse(raw, entry.media_type)
    if not isinstance(document, Manifest):
        return None
    for blob in (document.config, *document.layers):
        if await content.size(blob.digest) is None:
            return None
    return document
