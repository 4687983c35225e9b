"""POST /images/load: docker-archives and OCI layouts, both in one tar, become images. Source: Engine API ImageLoad.

    index.json     its manifests are kept byte for byte, so digests stay
    manifest.json  Docker's list of configs, tags and layers; manifests are made for what index.json does not have

Every layer's diff ID is held against the config before anything has a name.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rorqual.daemon.services import clock
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.images import archive as archives
from rorqual.daemon.services.images.archive import Archive
from rorqual.daemon.services.images.library import Library, LocalImage
from rorqual.daemon.services.images.making import MadeLayer, Maker, content_references
from rorqual.daemon.services.images.stores import Lease
from rorqual.distribution.progress import bar
from rorqual.errdefs import InvalidArgument, NotFound
from rorqual.oci import image as images
from rorqual.oci import manifest as manifests
from rorqual.oci import mediatypes
from rorqual.oci import platform as platforms
from rorqual.oci import reference as references
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.digest import Digest
from rorqual.oci.fields import Fields
from rorqual.oci.image import Image
from rorqual.oci.manifest import Index, Manifest
from rorqual.oci.platform import Platform

Line = Callable[[Mapping[str, object]], Awaitable[None]]
_GC = "containerd.io/gc.ref."
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_PROGRESS_EVERY_S = 0.1
_MAX_IMAGES = 4096
_MAX_LIST_BYTES = 4 << 20


@dataclass(slots=True)
class _Found:
    """One image of an archive. `layers` are names in it, the bottom first; `manifest` None: to be made.

    `index`: what it is an entry of, with the `others` of that index that are in the archive, and what attests them.
    """

    image: Image
    layers: list[str]
    manifest: Manifest | None = None
    index: Index | None = None
    others: list[_Found] = field(default_factory=list)
    attestations: list[Manifest] = field(default_factory=list)
    names: dict[str, None] = field(default_factory=dict)


class Loader:
    """Loads archives."""

    def __init__(self, library: Library, maker: Maker, lease: Lease, events: Events) -> None:
        self._library = library
        self._maker = maker
        self._lease = lease
        self._events = events

    async def load(
        self, body: AsyncIterator[bytes], line: Line, *, quiet: bool, wanted: Sequence[Platform] = ()
    ) -> None:
        """Docker's lines, at last `Loaded image: …` for each; of an index only the `wanted` platforms, or all.

        Raises: InvalidArgument, NotFound, DataLoss, ResourceExhausted.
        """
        async with self._lease.held():
            archive = await self._read(body, line, quiet=quiet)
            placing = _Placing(self._maker, archive)
            try:
                found = _images_of(archive, wanted)
                for one in found:
                    await self._one(one, archive, placing, line)
            finally:
                await asyncio.shield(placing.drop_rest())

    async def _read(self, body: AsyncIterator[bytes], line: Line, *, quiet: bool) -> Archive:
        if quiet:
            return await archives.read(body, self._maker, lambda *_: None)
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[str, int, int] | None] = asyncio.Queue()
        shown = 0.0

        def progress(name: str, current: int, total: int) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown >= _PROGRESS_EVERY_S or current == total:
                shown = now
                loop.call_soon_threadsafe(queue.put_nowait, (name, current, total))

        async def send() -> None:
            while (step := await queue.get()) is not None:
                name, current, total = step
                detail = {"current": current, "total": total}
                id = _short_name(name)
                await line(
                    {"status": "Loading layer", "progressDetail": detail, "progress": bar(current, total), "id": id}
                )

        sender = asyncio.create_task(send(), name="load progress")
        try:
            found = await archives.read(body, self._maker, progress)
            queue.put_nowait(None)
            await sender
            return found
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _one(self, found: _Found, archive: Archive, placing: _Placing, line: Line) -> None:
        local = await self._placed(found, placing)
        if found.index is not None:
            kept = {local.manifest.digest}
            for other in found.others:
                with contextlib.suppress(NotFound):  # an index may list platforms whose layers were left out
                    kept.add((await self._placed(other, placing)).manifest.digest)
            for attestation in found.attestations:
                await self._attestation(attestation, archive)
                kept.add(attestation.digest)
            references_ = {
                f"{_GC}content.m.{number}": str(entry.digest)
                for number, entry in enumerate(found.index.manifests)
                if entry.digest in kept
            }
            await self._maker.document(found.index.descriptor, found.index.raw, references_)
            local = await self._library.read(found.index.descriptor)
        await self._name(local, list(found.names), line)

    async def _placed(self, found: _Found, placing: _Placing) -> LocalImage:
        """The image's layers in their places, and its documents in the store."""
        manifest = found.manifest
        descriptors = await placing.place(found.image, found.layers, manifest)
        if manifest is None:
            return await self._maker.image(found.image.raw, descriptors, mediatypes.DOCKER_MANIFEST)
        await self._maker.store(found.image, manifest)
        return LocalImage(found.image, manifest, manifest.descriptor)

    async def _attestation(self, manifest: Manifest, archive: Archive) -> None:
        for blob in (manifest.config, *manifest.layers):
            await self._maker.document(blob, archive.blob(blob.digest) or b"", {})
        await self._maker.document(manifest.descriptor, manifest.raw, content_references(manifest))

    async def _name(self, image: LocalImage, names: list[str], line: Line) -> None:
        if not names:
            if not self._library.names_of(image.id):
                await self._library.keep(image)
            await line({"stream": f"Loaded image ID: {image.id}\n"})
        for name in names:
            before = await self._library.put(name, image, clock.now_ns())
            familiar = references.parse(name).familiar
            if before is not None:
                text = f"The image {familiar} already exists, renaming the old one with ID {before.id} to empty string"
                await line({"stream": text + "\n"})
            await line({"stream": f"Loaded image: {familiar}\n"})
        self._events.publish("image", "load", image.id, {**image.image.config.labels, "name": image.id})


class _Placing:
    """The archive's layers on their way into chains: each serves once, and is dropped if it serves none."""

    def __init__(self, maker: Maker, archive: Archive) -> None:
        self._maker = maker
        self._archive = archive
        self._unused = {id(made): made for made in archive.layers.values()}

    async def place(self, image: Image, names: list[str], manifest: Manifest | None) -> list[Descriptor]:
        """Puts all layers in place; their descriptors. Raises: InvalidArgument, NotFound."""
        if len(names) != len(image.diff_ids):
            raise InvalidArgument("invalid manifest, layers length mismatch: expected "
                                  f"{len(image.diff_ids)}, got {len(names)}")  # fmt: skip
        descriptors: list[Descriptor] = []
        parent: Digest | None = None
        for number, (name, diff_id, chain_id) in enumerate(zip(names, image.diff_ids, image.chain_ids, strict=True)):
            described = manifest.layers[number] if manifest is not None else None
            made = self._archive.layers.get(self._archive.resolve(name))
            if made is None and described is not None:
                made = await self._maker.stored(described)
                if made is not None:
                    self._unused[id(made)] = made
            if made is None:
                raise NotFound(f"invalid archive: layer {name} is missing")
            if made.diff_id != diff_id:
                raise InvalidArgument(f'invalid diffID for layer {number}: expected "{diff_id}", got "{made.diff_id}"')
            await self._into(made, chain_id, parent)
            descriptors.append(described or made.descriptor)
            parent = chain_id
        return descriptors

    async def _into(self, made: MadeLayer, chain_id: Digest, parent: Digest | None) -> None:
        if await self._maker.placed(chain_id):
            return
        if id(made) in self._unused:
            await self._maker.place(made, parent)
            del self._unused[id(made)]
            return
        again = await self._maker.again(made)
        try:
            await self._maker.place(again, parent)
        except BaseException:
            await asyncio.shield(self._maker.drop(again))
            raise

    async def drop_rest(self) -> None:
        """Removes what no image took."""
        for made in self._unused.values():
            await self._maker.drop(made)
        self._unused.clear()


def _images_of(archive: Archive, wanted: Sequence[Platform]) -> list[_Found]:
    """The images, by both lists. Raises: InvalidArgument."""
    found: dict[str, _Found] = {}
    of_digest: dict[str, _Found] = {}
    if archive.document("index.json") is not None:
        for one in _of_layout(archive, wanted):
            known = found.setdefault(one.image.digest, one)
            known.names |= one.names
            of_digest |= {other.image.digest: known for other in (*one.others, one)}
    raw = archive.document("manifest.json")
    if raw is not None:
        for one in _of_docker(archive, raw):
            if wanted and not any(platforms.same(platform, one.image.platform) for platform in wanted):
                continue
            known = of_digest.get(one.image.digest) or found.setdefault(one.image.digest, one)
            known.names |= one.names
    elif not found and not wanted:
        raise InvalidArgument("invalid archive: does not contain a manifest.json or an index.json")
    if len(found) > _MAX_IMAGES:
        raise InvalidArgument(f"invalid archive: more than {_MAX_IMAGES} images")
    if wanted and not found:
        raise NotFound(f"requested platform(s) ([{' '.join(map(str, wanted))}]) not found: no image provides them")
    return list(found.values())


def _of_docker(archive: Archive, raw: bytes) -> list[_Found]:
    try:
        entries = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"manifest.json: invalid JSON: {error}") from error
    if not isinstance(entries, list) or len(raw) > _MAX_LIST_BYTES:
        raise InvalidArgument("manifest.json: must be a list of images")
    found: list[_Found] = []
    for entry in entries:
        fields = Fields.of(entry, "manifest.json")
        config = archive.document(fields.text("Config"))
        if config is None:
            raise InvalidArgument(f"invalid archive: config {fields.text('Config')!r} is missing")
        one = _Found(images.parse(config), list(fields.texts("Layers")))
        for tag in fields.texts("RepoTags"):
            one.names[_checked_name(tag)] = None
        found.append(one)
    return found


def _of_layout(archive: Archive, wanted: Sequence[Platform]) -> list[_Found]:
    raw = archive.document("index.json") or b""
    top = Fields.load(raw, "index.json", _MAX_LIST_BYTES)
    found: list[_Found] = []
    for entry in top.objects("manifests"):
        descriptor = Descriptor.from_fields(entry)
        one = _of_descriptor(archive, descriptor, wanted)
        if one is None:
            continue
        for key in _NAME_ANNOTATIONS:
            if name := descriptor.annotations.get(key, ""):
                # A bare tag names nothing by itself; tools that write those mean the layout's directory.
                if key == _NAME_ANNOTATIONS[0] or "/" in name or ":" in name:
                    one.names[_checked_name(name)] = None
                break
        found.append(one)
    return found


def _of_descriptor(archive: Archive, descriptor: Descriptor, wanted: Sequence[Platform]) -> _Found | None:
    """The image, None for what is none, is not wanted, or whose blobs are not in the archive."""
    raw = archive.blob(descriptor.digest)
    if raw is None or manifests.is_attestation(descriptor):
        return None
    document = manifests.parse(raw, descriptor.media_type, _algorithm(descriptor))
    if isinstance(document, Manifest):
        return _of_manifest(archive, document, wanted)
    return _of_index(archive, document, wanted)


def _of_index(archive: Archive, index: Index, wanted: Sequence[Platform]) -> _Found | None:
    """This machine's platform, or the first; with the others."""
    variants: list[_Found] = []
    for entry in index.manifests:
        raw = archive.blob(entry.digest)
        if raw is None or manifests.is_attestation(entry):
            continue
        document = manifests.parse(raw, entry.media_type, _algorithm(entry))
        if isinstance(document, Index):
            raise InvalidArgument("manifest: indexes are nested too deep")
        one = _of_manifest(archive, document, wanted)
        if one is not None:
            variants.append(one)
    if not variants:
        return None
    best = variants.pop(platforms.choose(platforms.host(), [one.image.platform for one in variants]) or 0)
    best.index, best.others = index, variants
    for one in (best, *variants):
        assert one.manifest is not None, "an index's images have manifests"
        for entry in manifests.attestations_of(index, one.manifest.digest):
            attestation = _attestation_of(archive, entry)
            if attestation is not None:
                best.attestations.append(attestation)
    return best


def _attestation_of(archive: Archive, entry: Descriptor) -> Manifest | None:
    """An attestation that is wholly in the archive."""
    raw = archive.blob(entry.digest)
    if raw is None:
        return None
    document = manifests.parse(raw, entry.media_type, _algorithm(entry))
    if not isinstance(document, Manifest):
        return None
    whole = all(archive.blob(blob.digest) is not None for blob in (document.config, *document.layers))
    return document if whole else None


def _of_manifest(archive: Archive, manifest: Manifest, wanted: Sequence[Platform]) -> _Found | None:
    config = archive.blob(manifest.config.digest)
    if config is None or manifest.config.media_type not in mediatypes.CONFIGS:
        return None
    image = images.parse(config, _algorithm(manifest.config))
    if wanted and not any(platforms.same(platform, image.platform) for platform in wanted):
        return None
    layers = [f"blobs/{layer.digest.replace(':', '/', 1)}" for layer in manifest.layers]
    return _Found(image, layers, manifest)


def _algorithm(descriptor: Descriptor) -> str:
    return descriptor.digest.partition(":")[0]


def _checked_name(text: str) -> str:
    reference = references.parse(text)
    if reference.tag is None:
        raise InvalidArgument(f"invalid tag {json.dumps(text)}")
    return f"{reference.name}:{reference.tag}"


def _short_name(name: str) -> str:
    """Twelve characters that tell layers of an archive apart: of the digest or directory in its name."""
    parts = name.split("/")
    base = parts[-2] if parts[-1] == "layer.tar" and len(parts) > 1 else parts[-1]
    return base.removesuffix(".tar")[:12]
