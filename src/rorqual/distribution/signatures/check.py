"""Whether an image in a registry is signed as the policy demands, before anything of it is fetched.

What is asked about is digests, of documents that the puller already holds and goes on with: a tag that moves meanwhile
changes nothing. Signatures are looked for where cosign puts them:

    tag sha256-<hex>.sig                         simple signing, one layer a signature
    referrers API (or the tag sha256-<hex>)      the same manifests, and Sigstore bundles
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from rorqual.distribution.attestations import COSIGN_SIGNATURE, SIGSTORE_BUNDLE
from rorqual.distribution.repository import RawManifest
from rorqual.distribution.signatures import claims
from rorqual.distribution.signatures.claims import Claim
from rorqual.distribution.signatures.policy import Policy, Rule
from rorqual.errdefs import InvalidArgument, NotFound, PermissionDenied
from rorqual.oci import manifest as manifests
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.digest import Digest
from rorqual.oci.manifest import Manifest
from rorqual.oci.reference import Reference

log = logging.getLogger(__name__)

_MAX_MANIFESTS = 64
_MAX_LAYERS = 64


class Registry(Protocol):
    """The image's repository: distribution.repository."""

    async def manifest(self, target: str) -> RawManifest:
        """Of a tag or digest. Raises: NotFound and others."""

    async def referrers(self, digest: Digest) -> list[Descriptor]:
        """What refers to a manifest."""

    async def blob(self, descriptor: Descriptor, *, max_bytes: int) -> bytes:
        """A small blob, checked."""


class SignatureCheck:
    """One for a daemon."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    async def demand(self, registry: Registry, reference: Reference, digests: Sequence[Digest]) -> None:
        """Returns when one of `digests` (an image's index and manifest) is signed by a key of its rule, or has no rule.

        Raises: PermissionDenied when none is; what the registry's failures raise: no answer is no signature.
        """
        rule = self._policy.rule_for(reference)
        if rule is None:
            return
        seen = 0
        for digest in digests:
            async for claim in _claims(registry, digest):
                seen += 1
                if _proven(claim, digest, rule, reference):
                    return
        what = f"none of its {seen} signatures is by a trusted key" if seen else "it is not signed"
        raise PermissionDenied(
            f"{reference.familiar}: {what}, which the policy for {rule.pattern} demands: {digests[0]}"
        )


def _proven(claim: Claim, digest: Digest, rule: Rule, reference: Reference) -> bool:
    if digest not in claim.digests:
        return False
    if rule.same_repository and claim.reference.partition("@")[0] not in (reference.name, reference.familiar_name):
        return False
    return any(key.made(signature, claim.message) for key in rule.keys for signature in claim.signatures)


async def _claims(registry: Registry, digest: Digest) -> AsyncIterator[Claim]:
    """What is said of `digest`, unproven; what cannot be read says nothing."""
    async for manifest in _manifests(registry, digest):
        for layer in manifest.layers[:_MAX_LAYERS]:
            try:
                if layer.media_type == claims.SIMPLE_SIGNING:
                    payload = await registry.blob(layer, max_bytes=claims.MAX_PAYLOAD_BYTES)
                    yield claims.simple_signing(payload, layer.annotations.get(claims.SIGNATURE_ANNOTATION, ""))
                elif layer.media_type == claims.BUNDLE:
                    yield claims.bundle(await registry.blob(layer, max_bytes=claims.MAX_PAYLOAD_BYTES))
            except (InvalidArgument, NotFound) as error:
                log.info("a signature of %s says nothing: %s", digest, error)


async def _manifests(registry: Registry, digest: Digest) -> AsyncIterator[Manifest]:
    targets = [f"{digest.replace(':', '-', 1)}.sig"]
    listed = False
    while targets:
        target = targets.pop(0)
        try:
            served = await registry.manifest(target)
            document = manifests.parse(served.raw, served.media_type, served.digest.partition(":")[0])
            if isinstance(document, Manifest):
                yield document
        except (NotFound, InvalidArgument) as error:
            log.debug("no signature of %s at %s: %s", digest, target, error)
        if not listed:
            listed = True
            referrers = await registry.referrers(digest)
            wanted = (COSIGN_SIGNATURE, SIGSTORE_BUNDLE)
            targets += [str(entry.digest) for entry in referrers if entry.artifact_type in wanted][:_MAX_MANIFESTS]
