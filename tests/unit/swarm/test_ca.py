"""The swarm's authority: what it issues is trusted by its own root alone, and tokens tell which root that is."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from rorqual.errdefs import InvalidArgument
from rorqual.swarm.ca import RootCA, expires_at, join_token, renewed_token, same_token

HOUR = 3600 * 1_000_000_000


@pytest.fixture(scope="module")
def root() -> RootCA:
    return RootCA.create()


def test_a_nodes_certificate_says_who_it_is(root: RootCA) -> None:
    certificate, key = root.issue("node1", "cluster1", "worker", 2 * HOUR)
    read = x509.load_pem_x509_certificate(certificate.encode())
    names = {
        oid: read.subject.get_attributes_for_oid(oid)[0].value
        for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME)
    }
    assert [*names.values()] == ["node1", "cluster1", "swarm-worker"]
    assert "PRIVATE KEY" in key
    left = expires_at(certificate) - datetime.now(UTC)
    assert timedelta(hours=1, minutes=55) < left <= timedelta(hours=2)


def test_a_certificate_does_not_outlive_its_root(root: RootCA) -> None:
    certificate, _ = root.issue("node1", "cluster1", "manager", 200 * 365 * 24 * HOUR)
    assert expires_at(certificate) == expires_at(root.certificate)


def test_only_its_own_root_has_signed_it(root: RootCA) -> None:
    certificate, _ = root.issue("node1", "cluster1", "manager", HOUR)
    assert root.signed(certificate) and not RootCA.create().signed(certificate)


def test_a_token_begins_with_the_digest_of_the_root(root: RootCA) -> None:
    token = join_token(root.certificate)
    version, number, digest, secret = token.split("-")
    assert (version, number, len(digest), len(secret)) == ("SWMTKN", "1", 50, 25)
    assert int(digest, 36) == int.from_bytes(sha256(root.certificate.encode()).digest())
    assert join_token(root.certificate) != token


def test_a_token_for_another_root_keeps_its_secret(root: RootCA) -> None:
    token, other = join_token(root.certificate), RootCA.create()
    renewed = renewed_token(token, other.certificate)
    assert renewed.rpartition("-")[2] == token.rpartition("-")[2]
    assert renewed.rpartition("-")[0] == join_token(other.certificate).rpartition("-")[0]
    assert same_token(token, token) and not same_token(token, renewed)


def test_a_given_root_must_be_one(root: RootCA) -> None:
    assert RootCA.given(root.certificate, root.key).certificate == root.certificate
    other = RootCA.create()
    leaf, leaf_key = root.issue("node1", "cluster1", "manager", HOUR)
    for certificate, key, text in (
        (root.certificate, other.key, "mismatch"),
        (leaf, leaf_key, "not a certificate authority"),
        ("no certificate", root.key, "invalid signing CA"),
        (root.certificate, "no key", "invalid signing CA"),
    ):
        with pytest.raises(InvalidArgument, match=text):
            RootCA.given(certificate, key)
