"""Public keys, and whether a signature is theirs: ECDSA on the NIST curves, RSA, Ed25519.

The key decides the algorithm, never the signature or a document of the registry. Source: Sigstore's "Algorithm
Registry" (the hash that goes with each key), cosign SIGNATURE_SPEC.md.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rorqual.errdefs import InvalidArgument

_MAX_KEY_BYTES = 64 << 10
_MIN_RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class PublicKey:
    """`made(signature, message)`: whether the key's owner made it. `path` is where the key is from."""

    path: str
    made: Callable[[bytes, bytes], bool]


def load(path: str) -> PublicKey:
    """The key in a PEM file. Raises: InvalidArgument naming the file."""
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise InvalidArgument(f"key {path}: not a regular file")
        data = Path(path).read_bytes()
    except OSError as error:
        raise InvalidArgument(f"key {path}: {(error.strerror or str(error)).lower()}") from error
    if len(data) > _MAX_KEY_BYTES:
        raise InvalidArgument(f"key {path}: longer than {_MAX_KEY_BYTES} bytes")
    return PublicKey(path, _verifier(path, data))


def _verifier(path: str, data: bytes) -> Callable[[bytes, bytes], bool]:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidArgument(f"key {path}: not a public key in PEM form") from error
    check: Callable[[bytes, bytes], None]
    if isinstance(key, ec.EllipticCurvePublicKey):
        curves: dict[str, hashes.HashAlgorithm] = {
            "secp256r1": hashes.SHA256(),
            "secp384r1": hashes.SHA384(),
            "secp521r1": hashes.SHA512(),
        }
        if key.curve.name not in curves:
            raise InvalidArgument(f"key {path}: the curve {key.curve.name} is not supported")
        elliptic, hash = key, curves[key.curve.name]

        def check(signature: bytes, message: bytes) -> None:
            elliptic.verify(signature, message, ec.ECDSA(hash))
    elif isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _MIN_RSA_BITS:
            raise InvalidArgument(f"key {path}: RSA with {key.key_size} bits, at least {_MIN_RSA_BITS} are needed")
        rivest = key

        def check(signature: bytes, message: bytes) -> None:
            rivest.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(key, ed25519.Ed25519PublicKey):
        edwards = key

        def check(signature: bytes, message: bytes) -> None:
            edwards.verify(signature, message)
    else:
        raise InvalidArgument(f"key {path}: neither ECDSA, RSA nor Ed25519")

    def made(signature: bytes, message: bytes) -> bool:
        try:
            check(signature, message)
        except InvalidSignature:
            return False
        return True

    return made
