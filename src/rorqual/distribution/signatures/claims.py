"""What a signature is over and what that says: cosign's simple signing payloads, Sigstore bundles. Bytes to claims.

    simple signing   payload {"critical": {"image": {"docker-manifest-digest"}, "identity": {"docker-reference"}, ..}},
                     signature over the payload's bytes, in an annotation of its layer
    bundle v0.3      {"dsseEnvelope": {"payload": in-toto statement, "payloadType", "signatures": [{"sig"}]}},
                     signature over DSSE's PAE of payload and type

Nothing that is read here is believed before a key has vouched for `message`. Source: cosign specs/SIGNATURE_SPEC.md;
sigstore protobuf-specs sigstore_bundle.proto; DSSE protocol.md; in-toto attestation statement v1.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from rorqual.errdefs import InvalidArgument
from rorqual.oci.fields import Fields

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_PAYLOAD_BYTES = 1 << 20
_TYPE = "cosign container image signature"
_IN_TOTO = "application/vnd.in-toto+json"
# A statement with another predicate says something about the image (an SBOM of it), not that it is signed.
_SIGNED = "https://sigstore.dev/cosign/sign/v1"
_MAX_SIGNATURES = 16


@dataclass(frozen=True, slots=True)
class Claim:
    """`signatures`, each by itself, over `message`; once one is proven: the image has one of `digests`.

    `reference`: the repository that the signer named, "" when the form has none.
    """

    message: bytes
    signatures: tuple[bytes, ...]
    digests: frozenset[str]
    reference: str = ""


def simple_signing(payload: bytes, signature: str) -> Claim:
    """The claim of a layer's `payload` and of the annotation beside it. Raises: InvalidArgument."""
    fields = Fields.load(payload, "signature payload", MAX_PAYLOAD_BYTES)
    critical = fields.sub("critical")
    image = critical.sub("image") if critical is not None else None
    if critical is None or image is None:
        raise InvalidArgument("signature payload: critical.image is missing")
    if (kind := critical.text("type")) != _TYPE:
        raise InvalidArgument(f"signature payload: critical.type {kind!r} is not a container image's")
    identity = critical.sub("identity")
    reference = identity.text("docker-reference") if identity is not None else ""
    digest = image.text("docker-manifest-digest")
    return Claim(payload, (_decoded(signature, "signature"),), frozenset({digest}), reference)


def bundle(raw: bytes) -> Claim:
    """The claim of a Sigstore bundle. Raises: InvalidArgument, also for one that signs no image."""
    fields = Fields.load(raw, "bundle", MAX_PAYLOAD_BYTES)
    envelope = fields.sub("dsseEnvelope")
    if envelope is None:
        raise InvalidArgument("bundle: dsseEnvelope is missing")
    kind = envelope.text("payloadType")
    if kind != _IN_TOTO:
        raise InvalidArgument(f"bundle: payloadType {kind!r} is not supported")
    payload = _decoded(envelope.text("payload"), "bundle: payload")
    signatures = [_decoded(one.text("sig"), "bundle: sig") for one in envelope.objects("signatures")]
    if not 1 <= len(signatures) <= _MAX_SIGNATURES:
        raise InvalidArgument(f"bundle: {len(signatures)} signatures")
    return Claim(_pae(kind, payload), tuple(signatures), _subjects(payload))


def _subjects(payload: bytes) -> frozenset[str]:
    statement = Fields.load(payload, "statement", MAX_PAYLOAD_BYTES)
    predicate = statement.text("predicateType")
    if predicate != _SIGNED:
        raise InvalidArgument(f"statement: it tells {predicate!r} of the image and does not sign it")
    found: set[str] = set()
    for subject in statement.objects("subject"):
        digests = subject.sub("digest")
        if digests is not None and (encoded := digests.text("sha256")):
            found.add(f"sha256:{encoded}")
    return frozenset(found)


def _pae(kind: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(kind.encode()), kind.encode(), len(payload), payload)


def _decoded(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument(f"{what}: not base64") from error
