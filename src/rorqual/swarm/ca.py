"""The swarm's certificate authority: its root, the certificates of nodes, and the tokens that nodes join with.

As swarmkit's: ECDSA on P-256; a node's certificate says who it is by CN (its id), in which swarm by O and with which
role by OU; a token is SWMTKN-1-<digest of the root>-<secret>, so that who joins knows whom to trust before it says
anything.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rorqual.errdefs import InvalidArgument
from rorqual.swarm.identity import base36

_ROOT_NAME = "swarm-ca"
_ROOT_YEARS = 20
_BACKDATED = timedelta(hours=1)  # clocks of nodes differ
_DIGEST_LENGTH, _SECRET_LENGTH = 50, 25
_OU = {"manager": "swarm-manager", "worker": "swarm-worker"}


@dataclass(frozen=True, slots=True)
class RootCA:
    """Certificate and key of a swarm's root, both PEM."""

    certificate: str
    key: str

    @classmethod
    def create(cls) -> RootCA:
        """A new one, valid for 20 years."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _ROOT_NAME)])
        now = datetime.now(UTC)
        built = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(now + timedelta(days=365 * _ROOT_YEARS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(_pem(built), _key_pem(key))

    @classmethod
    def given(cls, certificate: str, key: str) -> RootCA:
        """One that a user has. Raises: InvalidArgument when it is none, or the key is another's."""
        try:
            read = x509.load_pem_x509_certificate(certificate.encode())
            private = serialization.load_pem_private_key(key.encode(), None)
        except (ValueError, TypeError) as e:
            raise InvalidArgument(f"invalid signing CA certificate or key: {e}") from None
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise InvalidArgument("invalid signing CA key: it must be one of an elliptic curve")
        if private.public_key() != read.public_key():
            raise InvalidArgument("certificate key mismatch")
        try:
            authority = read.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            authority = False
        if not authority:
            raise InvalidArgument("invalid signing CA certificate: it is not a certificate authority's")
        if read.not_valid_after_utc < datetime.now(UTC):
            raise InvalidArgument("invalid signing CA certificate: it has expired")
        return cls(_pem(read), _key_pem(private))

    def issue(self, node_id: str, cluster_id: str, role: str, lasts_ns: int) -> tuple[str, str]:
        """A node's certificate and its key, PEM."""
        root = x509.load_pem_x509_certificate(self.certificate.encode())
        signer = serialization.load_pem_private_key(self.key.encode(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        names = [x509.DNSName(_OU[role]), x509.DNSName(node_id), x509.DNSName(_ROOT_NAME)]
        built = (
            x509.CertificateBuilder()
            .subject_name(
                x509.Name(
                    [
                        x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster_id),
                        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, _OU[role]),
                        x509.NameAttribute(NameOID.COMMON_NAME, node_id),
                    ]
                )
            )
            .issuer_name(root.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(min(now + timedelta(microseconds=lasts_ns / 1000), root.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False
            )
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(signer, hashes.SHA256())
        )
        return _pem(built), _key_pem(key)

    def signed(self, certificate: str) -> bool:
        """Whether this root signed that certificate."""
        root = x509.load_pem_x509_certificate(self.certificate.encode())
        try:
            x509.load_pem_x509_certificate(certificate.encode()).verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    @property
    def issuer(self) -> tuple[str, str]:
        """Its subject and its public key: base64 of their DER, as the API shows them."""
        root = x509.load_pem_x509_certificate(self.certificate.encode())
        public = root.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return base64.b64encode(root.subject.public_bytes()).decode(), base64.b64encode(public).decode()


def join_token(root_certificate: str) -> str:
    """A new token for the swarm of this root (PEM)."""
    digest = int.from_bytes(sha256(root_certificate.encode()).digest())
    return f"SWMTKN-1-{base36(digest, _DIGEST_LENGTH)}-{base36(secrets.randbits(128), _SECRET_LENGTH)}"


def renewed_token(token: str, root_certificate: str) -> str:
    """The token for a swarm whose root has become another: the secret stays."""
    return f"{join_token(root_certificate).rpartition('-')[0]}-{token.rpartition('-')[2]}"


def same_token(one: str, other: str) -> bool:
    """Compared in a time that tells nothing."""
    return hmac.compare_digest(one.encode(), other.encode())


def expires_at(certificate: str) -> datetime:
    """When a certificate (PEM) ends."""
    return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=not signs,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
