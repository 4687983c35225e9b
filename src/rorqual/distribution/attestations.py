"""What tells something of an image: the attestations in its index (provenance, SBOM) and the signatures of those.

    index -- vnd.docker.reference.digest --> attestation manifest -> in-toto statements
                                             ^ referrers API: cosign signatures, Sigstore bundles

They are kept beside the image, by digest. An image without them is whole: what a registry does not have of them, or has
damaged, is left out and logged. Source: BuildKit docs/attestations/attestation-storage.md; distribution-spec
"Listing Referrers"; moby keeps the same of a pull.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from rorqual.distribution.repository import Repository
from rorqual.distribution.stores import ContentStore
from rorqual.errdefs import Error, InvalidArgument
from rorqual.oci import manifest as manifests
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.digest import Digest
from rorqual.oci.manifest import Index, Manifest

log = logging.getLogger(__name__)

COSIGN_SIGNATURE = "application/vnd.dev.cosign.artifact.sig.v1+json"
SIGSTORE_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
# An SBOM of a large image has some megabytes; it is in memory while it is fetched.
_MAX_STATEMENT_BYTES = 16 << 20
_MAX_STATEMENTS = 64
_MAX_REFERRERS = 16


@dataclass(frozen=True, slots=True)
class Artifact:
    """A manifest that tells of `subject`, with its config and layers as bytes."""

    manifest: Manifest
    blobs: tuple[tuple[Descriptor, bytes], ...]
    subject: Digest


async def fetch(repository: Repository, content: ContentStore, index: Index, digest: Digest) -> tuple[Artifact, ...]:
    """The attestations of the manifest `digest` in `index`, each followed by its signatures; does not raise Error."""
    found: list[Artifact] = []
    for entry in manifests.attestations_of(index, digest):
        attestation = await _artifact(repository, content, entry, digest)
        if attestation is None:
            continue
        found.append(attestation)
        for signature in await _signatures(repository, entry.digest):
            artifact = await _artifact(repository, content, signature, entry.digest)
            if artifact is not None:
                found.append(artifact)
    return tuple(found)


async def _signatures(repository: Repository, digest: Digest) -> list[Descriptor]:
    try:
        referrers = await repository.referrers(digest)
    except Error as error:
        log.warning("signatures of %s are not kept: %s", digest, error)
        return []
    wanted = (COSIGN_SIGNATURE, SIGSTORE_BUNDLE)
    return [entry for entry in referrers if entry.artifact_type in wanted][:_MAX_REFERRERS]


async def _artifact(
    repository: Repository, content: ContentStore, entry: Descriptor, subject: Digest
) -> Artifact | None:
    try:
        raw = await content.get(entry.digest)
        if raw is None:
            raw = (await repository.manifest(entry.digest)).raw
        document = manifests.parse(raw, entry.media_type, entry.digest.partition(":")[0])
        if not isinstance(document, Manifest) or len(document.layers) > _MAX_STATEMENTS:
            raise InvalidArgument("not a manifest of statements")
        described = (document.config, *document.layers)
        blobs = [(one, await _blob(repository, content, one)) for one in described]
    except Error as error:
        log.warning("artifact %s of %s is not kept: %s", entry.digest, subject, error)
        return None
    return Artifact(document, tuple(blobs), subject)


async def _blob(repository: Repository, content: ContentStore, descriptor: Descriptor) -> bytes:
    here = await content.get(descriptor.digest)
    return here if here is not None else await repository.blob(descriptor, max_bytes=_MAX_STATEMENT_BYTES)
