"""A pull: from a reference to a named image with its layers unpacked.

    tag -> index -> manifest for the platform -> its signatures, where they are demanded
        -> config -> layers (several at once) -> chain of snapshots -> name

The name comes last: an image that has one is whole. Layers of the same chain ID that two pulls want at once are
fetched once; cancelling the last of them leaves nothing but resumable ingests.
"""

from __future__ import annotations

from dataclasses import dataclass

from rorqual.distribution import attestations
from rorqual.distribution.attestations import Artifact
from rorqual.distribution.credentials import ANONYMOUS, Credentials
from rorqual.distribution.endpoints import RegistryOptions
from rorqual.distribution.layers import LayerFetcher
from rorqual.distribution.progress import Message, Progress
from rorqual.distribution.repository import RawManifest, Repository
from rorqual.distribution.retry import RetryPolicy
from rorqual.distribution.signatures.check import SignatureCheck
from rorqual.distribution.stores import ContentStore, ImageStore, Layer, LayerSink, Origins
from rorqual.distribution.transport import Transport
from rorqual.errdefs import InvalidArgument, NotFound
from rorqual.oci import image as images
from rorqual.oci import manifest as manifests
from rorqual.oci import mediatypes
from rorqual.oci import platform as platforms
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.digest import Digest
from rorqual.oci.image import Image
from rorqual.oci.manifest import Index, Manifest
from rorqual.oci.platform import Platform
from rorqual.oci.reference import Reference

_GC = "containerd.io/gc.ref."
# An index in an index in an index is nobody's image.
_MAX_INDEX_DEPTH = 2


@dataclass(frozen=True, slots=True)
class PullResult:
    """`name` now points at `target`, an index or a manifest; `image` is the config chosen for the platform."""

    name: str
    target: Descriptor
    manifest: Manifest
    image: Image
    updated: bool

    @property
    def chain_id(self) -> Digest | None:
        """The topmost snapshot's name; None for an image without layers."""
        chain = self.image.chain_ids
        return chain[-1] if chain else None


@dataclass(frozen=True, slots=True)
class _Resolved:
    target: Descriptor
    documents: tuple[Index | Manifest, ...]
    manifest: Manifest


def _ignore(_: object) -> None:
    """Progress that nobody watches."""


class Puller:
    """All pulls of one daemon; they share connections, tokens and the number of layers fetched at once."""

    def __init__(
        self,
        transport: Transport,
        options: RegistryOptions,
        *,
        content: ContentStore,
        layers: LayerSink,
        images: ImageStore,
        snapshotter: str = "overlayfs",
        max_downloads: int = 3,
        policy: RetryPolicy | None = None,
        origins: Origins | None = None,
        signatures: SignatureCheck | None = None,
    ) -> None:
        self._transport = transport
        self._options = options
        self._content = content
        self._images = images
        self._snapshotter = snapshotter
        self._policy = policy or RetryPolicy()
        self._origins = origins
        self._signatures = signatures
        self._layers = LayerFetcher(layers, max_downloads)

    async def pull(
        self,
        reference: Reference,
        *,
        platform: Platform | None = None,
        credentials: Credentials = ANONYMOUS,
        progress: Progress = _ignore,
    ) -> PullResult:
        """The image of `reference` for `platform` (this machine's when None), stored, unpacked and named.

        With tag and digest, the digest is what counts and what the image is named by. `progress` gets Docker's lines.

        Raises: NotFound, Unauthenticated, Unavailable, InvalidArgument, DataLoss, ResourceExhausted in Docker's words;
        PermissionDenied for what the signature policy refuses.
        """
        reference = reference.with_default_tag()
        wanted = platforms.normalize(platform) if platform is not None else platforms.host()
        repository = Repository(self._transport, reference, credentials, self._options, self._policy)
        asked = reference.digest or reference.tag or ""
        name = f"{reference.name}@{reference.digest}" if reference.digest else str(reference)
        served = await repository.manifest(asked)
        # Not before: an unknown image must still be answerable with 404.
        progress(Message(f"Pulling from {reference.path}", name if reference.digest else asked))
        resolved = await self._resolve(repository, served, wanted)
        if self._signatures is not None:
            # Of the documents that are in hand: from here on everything is fetched by the digests in them.
            digests = [document.digest for document in resolved.documents]
            await self._signatures.demand(repository, reference, digests)
        image = await self._config(repository, resolved.manifest)
        _check_platform(reference, image, platform)
        layers = _layers_of(resolved.manifest, image)
        fetched = await self._layers.fetch(repository, layers, progress)
        artifacts = await self._artifacts(repository, resolved)
        await self._store(resolved, image, artifacts)
        if self._origins is not None:
            for descriptor in (resolved.target, *(layer.descriptor for layer in layers if fetched)):
                await self._origins.note_origin(descriptor, reference.domain, reference.path)
        before = await self._images.get(name)
        updated = fetched or before != resolved.target.digest
        if updated or not await self._images.stands_for(name, resolved.manifest.digest):
            await self._images.put(name, resolved.target)
        progress(Message(f"Digest: {resolved.target.digest}"))
        said = "Downloaded newer image for" if updated else "Image is up to date for"
        shown = f"{reference.familiar_name}@{reference.digest}" if reference.digest else reference.familiar
        progress(Message(f"Status: {said} {shown}"))
        return PullResult(name, resolved.target, resolved.manifest, image, updated)

    async def tags(self, reference: Reference, credentials: Credentials = ANONYMOUS) -> list[str]:
        """Every tag of the repository. Raises: as `pull`."""
        repository = Repository(self._transport, reference, credentials, self._options, self._policy)
        return await repository.tags()

    async def describe(self, reference: Reference, credentials: Credentials = ANONYMOUS) -> RawManifest:
        """The manifest or index of `reference` as the registry has it; nothing is stored. Raises: as `pull`."""
        repository = Repository(self._transport, reference, credentials, self._options, self._policy)
        reference = reference.with_default_tag()
        return await repository.manifest(reference.digest or reference.tag or "")

    async def platform_of(
        self, reference: Reference, manifest: Manifest, credentials: Credentials = ANONYMOUS
    ) -> Platform:
        """What the config of a manifest in the repository says that it is for. Raises: as `pull`."""
        repository = Repository(self._transport, reference, credentials, self._options, self._policy)
        raw = await repository.blob(manifest.config, max_bytes=images.MAX_CONFIG_BYTES)
        return images.parse(raw, manifest.config.digest.partition(":")[0]).platform

    async def _resolve(self, repository: Repository, served: RawManifest, wanted: Platform) -> _Resolved:
        """The manifest for the platform and every document on the way to it."""
        document = manifests.parse(served.raw, served.media_type, served.digest.partition(":")[0])
        target = document.descriptor
        documents = [document]
        while isinstance(document, Index):
            if len(documents) > _MAX_INDEX_DEPTH:
                raise InvalidArgument("manifest: indexes are nested too deep")
            document = await self._child(repository, document.choose(wanted))
            documents.append(document)
        return _Resolved(target, tuple(documents), document)

    async def _child(self, repository: Repository, entry: Descriptor) -> Index | Manifest:
        """The document of an index's entry, from the store when it is there."""
        raw = await self._content.get(entry.digest)
        if raw is None:
            raw = (await repository.manifest(entry.digest)).raw
        if len(raw) != entry.size:
            raise InvalidArgument(f"manifest {entry.digest}: {len(raw)} bytes, its index says {entry.size}")
        return manifests.parse(raw, entry.media_type, entry.digest.partition(":")[0])

    async def _config(self, repository: Repository, manifest: Manifest) -> Image:
        """The image config, from the store when it is there."""
        config = manifest.config
        if config.media_type == mediatypes.DOCKER_PLUGIN_CONFIG:
            raise InvalidArgument(f'Encountered remote "{config.media_type}"(plugin) when fetching')
        raw = await self._content.get(config.digest)
        if raw is None:
            raw = await repository.blob(config, max_bytes=images.MAX_CONFIG_BYTES)
        return images.parse(raw, config.digest.partition(":")[0])

    async def _artifacts(self, repository: Repository, resolved: _Resolved) -> tuple[Artifact, ...]:
        """What the index tells of the manifest that was chosen."""
        index = resolved.documents[-2] if len(resolved.documents) > 1 else None
        if not isinstance(index, Index):
            return ()
        return await attestations.fetch(repository, self._content, index, resolved.manifest.digest)

    async def _store(self, resolved: _Resolved, image: Image, artifacts: tuple[Artifact, ...]) -> None:
        """Puts the documents into the store, the inner ones first, each with references to what it needs."""
        # Signatures come after what they sign, which refers to them.
        for artifact in reversed(artifacts):
            for descriptor, raw in artifact.blobs:
                await self._content.put(descriptor, raw, {})
            signatures = [other.manifest.digest for other in artifacts if other.subject == artifact.manifest.digest]
            labels = _manifest_references(artifact.manifest)
            labels |= {f"{_GC}content.referrer.{number}": str(digest) for number, digest in enumerate(signatures)}
            await self._content.put(artifact.manifest.descriptor, artifact.manifest.raw, labels)
        kept = {artifact.manifest.digest for artifact in artifacts}
        manifest = resolved.manifest
        chain = image.chain_ids
        labels = {f"{_GC}snapshot.{self._snapshotter}": chain[-1]} if chain else {}
        await self._content.put(manifest.config, image.raw, labels)
        for document in reversed(resolved.documents):
            await self._content.put(document.descriptor, document.raw, _references(document, resolved, kept))


def _manifest_references(manifest: Manifest) -> dict[str, str]:
    labels = {f"{_GC}content.config": str(manifest.config.digest)}
    return labels | {f"{_GC}content.l.{number}": str(layer.digest) for number, layer in enumerate(manifest.layers)}


def _references(document: Index | Manifest, resolved: _Resolved, kept: set[Digest]) -> dict[str, str]:
    """containerd's labels from a document to what must live as long as it does."""
    if isinstance(document, Manifest):
        return _manifest_references(document)
    here = {inner.digest for inner in resolved.documents} | kept
    return {
        f"{_GC}content.m.{number}": str(entry.digest)
        for number, entry in enumerate(document.manifests)
        if entry.digest in here
    }


def _layers_of(manifest: Manifest, image: Image) -> tuple[Layer, ...]:
    """The layers with their places. Raises: InvalidArgument when manifest and config do not fit, in Docker's words."""
    if len(manifest.layers) != len(image.diff_ids):
        raise InvalidArgument("layers from manifest don't match image configuration")
    for layer in manifest.layers:
        if layer.media_type not in mediatypes.LAYERS:
            raise InvalidArgument(f"unsupported media type {layer.media_type}")
    chain = image.chain_ids
    parents: tuple[Digest | None, ...] = (None, *chain[:-1])
    return tuple(
        Layer(descriptor, diff_id, chain_id, parent)
        for descriptor, diff_id, chain_id, parent in zip(
            manifest.layers, image.diff_ids, chain, parents[: len(chain)], strict=True
        )
    )


def _check_platform(reference: Reference, image: Image, asked: Platform | None) -> None:
    """Refuses an image of another operating system, and of another architecture when one was asked for."""
    if image.platform.os != (asked or platforms.host()).os:
        raise InvalidArgument(f'image operating system "{image.platform.os}" cannot be used on this platform')
    if asked is not None and platforms.choose(asked, [image.platform]) is None:
        raise NotFound(
            f"image with reference {reference.familiar} was found but does not match the specified platform: "
            f"wanted {platforms.normalize(asked)}, actual: {platforms.normalize(image.platform)}"
        )
