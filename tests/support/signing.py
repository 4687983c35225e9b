"""Signatures as cosign makes them: `cosign sign --key`, old style and as Sigstore bundles; keys of every kind."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from support.image import OCI_MANIFEST, BuiltImage, digest_of

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
COSIGN_SIGNATURE = "application/vnd.dev.cosign.artifact.sig.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
KINDS = ("ecdsa", "ecdsa-p384", "rsa", "ed25519")


@dataclass(frozen=True)
class Signer:
    """Somebody with a private key; `pem` is the public one."""

    sign: Callable[[bytes], bytes]
    pem: bytes

    def write(self, path: Path) -> str:
        path.write_bytes(self.pem)
        return str(path)


def signer(kind: str = "ecdsa") -> Signer:
    sign: Callable[[bytes], bytes]
    if kind.startswith("ecdsa"):
        curve, hash = (ec.SECP384R1(), hashes.SHA384()) if kind.endswith("384") else (ec.SECP256R1(), hashes.SHA256())
        elliptic = ec.generate_private_key(curve)
        public, sign = elliptic.public_key(), lambda message: elliptic.sign(message, ec.ECDSA(hash))
    elif kind == "rsa":
        rivest = rsa.generate_private_key(65537, 2048)
        public, sign = rivest.public_key(), lambda message: rivest.sign(message, padding.PKCS1v15(), hashes.SHA256())
    else:
        edwards = ed25519.Ed25519PrivateKey.generate()
        public, sign = edwards.public_key(), edwards.sign
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Signer(sign, pem)


def payload(digest: str, reference: str = "") -> bytes:
    critical = {
        "identity": {"docker-reference": reference},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    }
    return json.dumps({"critical": critical, "optional": None}).encode()


def simple(signer: Signer, digest: str, reference: str = "") -> BuiltImage:
    """The manifest that cosign puts at `sha256-<hex>.sig`."""
    body = payload(digest, reference)
    annotations = {"dev.cosignproject.cosign/signature": base64.b64encode(signer.sign(body)).decode()}
    return _manifest(body, SIMPLE_SIGNING, annotations, COSIGN_SIGNATURE, digest)


def bundle(signer: Signer, digest: str, predicate: str = "https://sigstore.dev/cosign/sign/v1") -> BuiltImage:
    """The manifest of a Sigstore bundle that refers to `digest`."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": digest.partition(":")[2]}}],
        "predicateType": predicate,
        "predicate": {},
    }
    body, kind = json.dumps(statement).encode(), "application/vnd.in-toto+json"
    signature = signer.sign(f"DSSEv1 {len(kind)} {kind} {len(body)} ".encode() + body)
    envelope = {
        "payload": base64.b64encode(body).decode(),
        "payloadType": kind,
        "signatures": [{"sig": base64.b64encode(signature).decode()}],
    }
    document = {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": "none"}},
        "dsseEnvelope": envelope,
    }
    return _manifest(json.dumps(document).encode(), BUNDLE, {}, BUNDLE, digest)


def _manifest(
    body: bytes, media_type: str, annotations: dict[str, str], artifact_type: str, subject: str
) -> BuiltImage:
    config = b"{}"
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "size": len(config),
            "digest": digest_of(config),
        },
        "layers": [{"mediaType": media_type, "size": len(body), "digest": digest_of(body), "annotations": annotations}],
        "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": 1},
    }
    return BuiltImage(json.dumps(manifest).encode(), OCI_MANIFEST, config, (body,), ())


def listed(*artifacts: BuiltImage) -> bytes:
    """What the referrers API answers."""
    entries = [
        {
            "mediaType": OCI_MANIFEST,
            "size": len(artifact.manifest),
            "digest": artifact.digest,
            "artifactType": json.loads(artifact.manifest)["artifactType"],
        }
        for artifact in artifacts
    ]
    kind = "application/vnd.oci.image.index.v1+json"
    return json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode()
