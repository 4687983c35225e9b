"""What signatures say, and what they do not."""

import base64
import json

import pytest
from support.signing import bundle, payload, signer

from rorqual.distribution.signatures import claims
from rorqual.errdefs import InvalidArgument

DIGEST = "sha256:" + "a" * 64


def test_a_payload_names_digest_and_repository() -> None:
    body = payload(DIGEST, "registry.test/team/app")
    claim = claims.simple_signing(body, base64.b64encode(b"sig").decode())
    assert claim.message == body and claim.signatures == (b"sig",)
    assert claim.digests == {DIGEST} and claim.reference == "registry.test/team/app"


def test_a_bundle_is_signed_over_payload_and_type() -> None:
    own = signer()
    claim = claims.bundle(bundle(own, DIGEST).layers[0])
    assert claim.digests == {DIGEST} and claim.reference == ""
    assert claim.message.startswith(b"DSSEv1 28 application/vnd.in-toto+json ")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"[]", "must be an object"),
        (b"{}", "critical.image is missing"),
        (b'{"critical":{"image":{"docker-manifest-digest":"x"},"type":"atomic container signature"}}', "critical.type"),
        (b'{"critical":{"image":{}},"critical":{"image":{}}}', "names a key twice"),
        (b'{"a":"' + b"a" * claims.MAX_PAYLOAD_BYTES + b'"}', "are allowed"),
    ],
)
def test_what_is_no_payload_says_nothing(body: bytes, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        claims.simple_signing(body, "c2ln")


def test_a_signature_must_be_base64() -> None:
    with pytest.raises(InvalidArgument, match="not base64"):
        claims.simple_signing(payload(DIGEST), "*")


def test_a_signed_statement_about_an_image_does_not_sign_it() -> None:
    sbom = bundle(signer(), DIGEST, "https://spdx.dev/Document").layers[0]
    with pytest.raises(InvalidArgument, match="does not sign it"):
        claims.bundle(sbom)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"dsseEnvelope": None}, "dsseEnvelope is missing"),
        ({"dsseEnvelope": {"payloadType": "text/plain"}}, "payloadType 'text/plain'"),
        ({"dsseEnvelope": {"payloadType": "application/vnd.in-toto+json", "payload": "e30="}}, "0 signatures"),
    ],
)
def test_what_is_no_bundle_says_nothing(change: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        claims.bundle(json.dumps(change).encode())
