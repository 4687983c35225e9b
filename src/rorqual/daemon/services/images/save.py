"""GET /images/get: images as one tar that is both an OCI layout and a docker-archive. Source: Engine API ImageGet.

    blobs/sha256/<hex>   indexes, manifests, configs, and layers as they are stored
    index.json           what the names point at, with the names as annotations
    manifest.json        Docker's list: config, tags, layers of one platform each
    repositories, oci-layout

An index is saved whole, with those of its platforms (and their attestations) that are here; for a single platform that
was asked for, only its manifest. The same images give the same bytes. Source: image-spec image-layout.md.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from rorqual.daemon.remote import Remote
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.images.blobfiles import BlobFiles
from rorqual.daemon.services.images.library import Library, LocalImage, not_provided, repository_of
from rorqual.daemon.services.images.manifests import attestations_here
from rorqual.daemon.services.images.stores import Lease
from rorqual.distribution.pack.headers import BLOCK, DIRECTORY, END, Member, encode
from rorqual.errdefs import InvalidArgument, NotFound
from rorqual.oci import mediatypes
from rorqual.oci import reference as references
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.manifest import Manifest
from rorqual.oci.platform import Platform

_LAYOUT = b'{"imageLayoutVersion": "1.0.0"}'


@dataclass(slots=True)
class _Chosen:
    """An image and the names it was asked for by; `manifests`: all that is saved of `target`, an index or the one."""

    image: LocalImage
    target: Descriptor
    manifests: tuple[Manifest, ...]
    names: dict[str, None] = field(default_factory=dict)


class Saver:
    """Saves images."""

    def __init__(self, library: Library, remote: Remote, blobs: BlobFiles, lease: Lease, events: Events) -> None:
        self._library = library
        self._remote = remote
        self._blobs = blobs
        self._lease = lease
        self._events = events

    async def choose(self, wanted: Sequence[str], platforms: Sequence[Platform] = ()) -> list[_Chosen]:
        """The images: a name without tag means all its tags. Raises: NotFound, InvalidArgument."""
        if not wanted:
            raise InvalidArgument("no images to save")
        found: dict[str, _Chosen] = {}
        for text in wanted:
            for name, image in await self._named(text):
                one = await self._of(text, image, platforms)
                chosen = found.setdefault(one.target.digest, one)
                if name:
                    chosen.names[name] = None
        return list(found.values())

    async def _of(self, text: str, image: LocalImage, platforms: Sequence[Platform]) -> _Chosen:
        variants = list(image.variants)
        if platforms:
            variants = []
            for platform in platforms:
                variant = image.exactly(platform)
                if variant is None:
                    raise NotFound(f"no suitable export target found: {not_provided(text, platform)}")
                variants.append(variant)
        if len(platforms) == 1 or image.target.digest == image.manifest.digest:
            return _Chosen(variants[0], variants[0].manifest.descriptor, (variants[0].manifest,))
        manifests = [variant.manifest for variant in variants]
        told = await attestations_here(self._remote.content, image.target, [one.digest for one in manifests])
        best = image if image in variants else variants[0]
        return _Chosen(best, image.target, (*manifests, *told))

    async def _named(self, text: str) -> list[tuple[str, LocalImage]]:
        names = self._library.names()
        by_id = self._library.lookup(text)
        try:
            reference = references.parse(text)
        except InvalidArgument:
            reference = None
        if reference is not None:
            if reference.tag is not None and reference.digest is None and str(reference) in names:
                return [(str(reference), names[str(reference)])]
            if reference.is_name_only and (by_id is None or str(reference.with_default_tag()) in names):
                tags = [n for n in names if repository_of(n) == reference.name and "@" not in n]
                if tags:
                    return [(n, names[n]) for n in sorted(tags)]
        return [("", await self._library.find(text))]

    async def archive(self, chosen: Sequence[_Chosen]) -> AsyncIterator[bytes]:
        """The tar. Raises: NotFound when a blob is gone (an image that was never wholly here)."""
        async with self._lease.held() as lease:
            descriptors = _blobs_of(chosen)
            for descriptor in descriptors:
                await self._remote.leases.hold(lease, "content", descriptor.digest)
            yield _directory(b"blobs/") + _directory(b"blobs/sha256/")
            for descriptor in sorted(descriptors, key=lambda d: d.digest):
                async for piece in self._blob(descriptor):
                    yield piece
            for name, data in _documents(chosen):
                yield _file(name, data)
            yield END
        for one in chosen:
            self._events.publish("image", "save", one.image.id, {"name": one.image.id})

    async def _blob(self, descriptor: Descriptor) -> AsyncIterator[bytes]:
        name = _path(descriptor).encode()
        yield encode(Member(name, size=descriptor.size))
        left = descriptor.size
        async for piece in self._blobs.pieces(descriptor):
            left -= len(piece)
            yield piece
        if left:
            raise NotFound(f"content {descriptor.digest}: {left} bytes are missing")
        if padding := -descriptor.size % BLOCK:
            yield bytes(padding)


def _path(descriptor: Descriptor) -> str:
    return "blobs/" + descriptor.digest.replace(":", "/", 1)


def _blobs_of(chosen: Sequence[_Chosen]) -> list[Descriptor]:
    """Each blob once."""
    found: dict[str, Descriptor] = {}
    for one in chosen:
        found[one.target.digest] = one.target
        for manifest in one.manifests:
            for descriptor in (manifest.descriptor, manifest.config, *manifest.layers):
                found[descriptor.digest] = descriptor
    return list(found.values())


def _documents(chosen: Sequence[_Chosen]) -> list[tuple[bytes, bytes]]:
    """The lists, as bytes."""
    entries: list[dict[str, object]] = []
    listed: list[dict[str, object]] = []
    repositories: dict[str, dict[str, str]] = {}
    for one in chosen:
        manifest = one.image.manifest
        layers = [_path(layer) for layer in manifest.layers]
        tags = [references.parse(name) for name in one.names]
        entries.append(
            {
                "Config": _path(manifest.config),
                "RepoTags": [tag.familiar for tag in tags] or None,
                "Layers": layers,
            }
        )
        described = one.target.to_json()
        if one.target.media_type not in mediatypes.INDEXES:
            described["platform"] = one.image.image.platform.to_json()
        for tag in tags:
            annotations = {"io.containerd.image.name": str(tag), "org.opencontainers.image.ref.name": tag.tag or ""}
            listed.append({**described, "annotations": annotations})
            if manifest.layers:
                top = manifest.layers[-1].digest.partition(":")[2]
                repositories.setdefault(tag.familiar_name, {})[tag.tag or ""] = top
        if not tags:
            listed.append(described)
    index = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": listed}
    found = [(b"index.json", _json(index)), (b"manifest.json", _json(entries)), (b"oci-layout", _LAYOUT)]
    if repositories:
        found.append((b"repositories", _json(repositories)))
    return found


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _directory(name: bytes) -> bytes:
    return encode(Member(name, DIRECTORY, 0o755))


def _file(name: bytes, data: bytes) -> bytes:
    return encode(Member(name, size=len(data))) + data + bytes(-len(data) % BLOCK)
