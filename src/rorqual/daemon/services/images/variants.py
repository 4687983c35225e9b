"""The platforms behind an index that are here, each an image of its own; and its attestations.

What of an index is here is told by its labels (containerd.io/gc.ref.content.*), which pull and load set: the rest of a
long index is not even asked for. Source: containerd docs/garbage-collection.md; BuildKit's attestation-storage.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rorqual.errdefs import InvalidArgument, NotFound
from rorqual.oci import image as images
from rorqual.oci import manifest as manifests
from rorqual.oci import mediatypes
from rorqual.oci import platform as platforms
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.image import Image
from rorqual.oci.manifest import Index, Manifest
from rorqual.oci.platform import Platform

CONTENT_LABEL = "containerd.io/gc.ref.content"
_MAX_INDEX_DEPTH = 2


class BlobReader(Protocol):
    """containerd's content store."""

    async def read(self, digest: str, limit: int) -> bytes:
        """A blob. Raises: NotFound."""

    async def labels(self, digest: str) -> dict[str, str]:
        """Its labels. Raises: NotFound."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One platform's manifest and config. `platform` is the config's, in the words of the index where it is there."""

    manifest: Manifest
    image: Image
    platform: Platform


async def read(blobs: BlobReader, target: Descriptor) -> tuple[Variant, ...]:
    """What `target` stands for here, this machine's platform first, then in the order of the index.

    Raises: NotFound when nothing of it is here, InvalidArgument.
    """
    document = manifests.parse(
        await blobs.read(target.digest, manifests.MAX_MANIFEST_BYTES), target.media_type, _algorithm(target)
    )
    if isinstance(document, Manifest):
        return (await _variant(blobs, document, None),)
    found = await _of_index(blobs, document, 1)
    if not found:
        raise NotFound("no manifest of the index is here")
    best = platforms.choose(platforms.host(), [one.platform for one in found])
    if best:
        found.insert(0, found.pop(best))
    return tuple(found)


async def _of_index(blobs: BlobReader, index: Index, depth: int) -> list[Variant]:
    if depth > _MAX_INDEX_DEPTH:
        raise InvalidArgument("manifest: indexes are nested too deep")
    found: list[Variant] = []
    for entry in await held(blobs, index):
        if manifests.is_attestation(entry) or (entry.platform is not None and entry.platform.os == "unknown"):
            continue
        try:
            raw = await blobs.read(entry.digest, manifests.MAX_MANIFEST_BYTES)
            document = manifests.parse(raw, entry.media_type, _algorithm(entry))
            if isinstance(document, Index):
                found += await _of_index(blobs, document, depth + 1)
            elif document.config.media_type in mediatypes.CONFIGS:
                found.append(await _variant(blobs, document, entry.platform))
        except (NotFound, InvalidArgument):
            continue  # not here, or nothing that could be run: the others still can
    return found


async def held(blobs: BlobReader, index: Index) -> Sequence[Descriptor]:
    """The entries that the index keeps alive; all of them when its labels say nothing."""
    labels = await blobs.labels(index.digest)
    digests = {value for label, value in labels.items() if label.startswith(CONTENT_LABEL)}
    return [entry for entry in index.manifests if entry.digest in digests] if digests else index.manifests


async def _variant(blobs: BlobReader, manifest: Manifest, described: Platform | None) -> Variant:
    config = manifest.config
    image = images.parse(await blobs.read(config.digest, images.MAX_CONFIG_BYTES), _algorithm(config))
    return Variant(manifest, image, described or image.platform)


def _algorithm(descriptor: Descriptor) -> str:
    return descriptor.digest.partition(":")[0]
