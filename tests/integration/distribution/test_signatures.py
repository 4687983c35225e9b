"""Pulls that must be signed: by whom, of what, and in which of cosign's places."""

import json
from pathlib import Path

import pytest
from aiohttp import web
from support.image import BuiltImage, build, layer_tar
from support.pulling import Client
from support.scripted_registry import ScriptedRegistry, index_of
from support.signing import KINDS, Signer, bundle, listed, signer, simple

from rorqual import errdefs
from rorqual.distribution.signatures import policy
from rorqual.distribution.signatures.check import SignatureCheck

OCI_INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
def image() -> BuiltImage:
    return build([layer_tar({"a": b"1"})])


class Signing:
    """A registry's answers: signature manifests by tag, referrers by digest, whatever else is put there."""

    def __init__(self) -> None:
        self.tags: dict[str, tuple[bytes, str]] = {}
        self.referrers: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}

    def keep(self, artifact: BuiltImage, *tags: str) -> None:
        for target in (artifact.digest, *tags):
            self.tags[target] = (artifact.manifest, artifact.manifest_type)
        self.blobs |= artifact.blobs

    async def answer(self, request: web.Request) -> web.StreamResponse | None:
        kind, target = request.path.split("/")[-2:]
        if kind == "manifests" and target in self.tags:
            body, media_type = self.tags[target]
            return web.Response(body=body, headers={"Content-Type": media_type})
        if kind == "referrers" and target in self.referrers:
            return web.Response(body=self.referrers[target], headers={"Content-Type": OCI_INDEX})
        if kind == "blobs" and target in self.blobs:
            return web.Response(body=self.blobs[target])
        return None


def sig_tag(digest: str) -> str:
    return digest.replace(":", "-") + ".sig"


def demanding(key: str, **fields: object) -> SignatureCheck:
    return SignatureCheck(policy.parse([{"repository": "127.0.0.1:*/*", "keys": [key], **fields}]))


@pytest.mark.parametrize("kind", KINDS)
async def test_an_image_signed_at_cosigns_tag_is_pulled(image: BuiltImage, kind: str, tmp_path: Path) -> None:
    own, signing = signer(kind), Signing()
    signing.keep(simple(own, image.digest), sig_tag(image.digest))
    check = demanding(own.write(tmp_path / "k.pub"))
    async with ScriptedRegistry(image, bend=signing.answer) as registry, Client(signatures=check) as client:
        await client.pull(registry.reference)
        assert client.images.names == {f"{registry.reference}:latest": image.digest}


@pytest.mark.parametrize("make", [simple, bundle])
@pytest.mark.parametrize("api", [True, False])
async def test_an_image_signed_by_a_referrer_is_pulled(image: BuiltImage, make, api: bool, tmp_path: Path) -> None:
    own, signing = signer(), Signing()
    artifact = make(own, image.digest)
    signing.keep(artifact)
    if api:
        signing.referrers[image.digest] = listed(artifact)
    else:
        # Where the registry lacks the API, a tag lists them.
        signing.tags[image.digest.replace(":", "-")] = (listed(artifact), OCI_INDEX)
    check = demanding(own.write(tmp_path / "k.pub"))
    async with ScriptedRegistry(image, bend=signing.answer) as registry, Client(signatures=check) as client:
        await client.pull(registry.reference)
        assert len(client.images.names) == 1


async def _refused(signing: Signing, image: BuiltImage, check: SignatureCheck, text: str) -> None:
    """The pull names nothing and fetches neither config nor layer."""
    async with ScriptedRegistry(image, bend=signing.answer) as registry, Client(signatures=check) as client:
        with pytest.raises(errdefs.PermissionDenied, match=text):
            await client.pull(registry.reference)
        client.check_nothing_named()
        assert client.layers.opened == 0
        assert not [one for one in registry.paths("/blobs/") if one.path.rpartition("/")[2] in image.blobs]


async def test_an_unsigned_image_is_refused_before_anything_of_it_is_fetched(image: BuiltImage, tmp_path: Path) -> None:
    check = demanding(signer().write(tmp_path / "k.pub"))
    await _refused(Signing(), image, check, f"it is not signed, which the policy for .* demands: {image.digest}")


async def test_signatures_by_others_or_of_others_do_not_count(image: BuiltImage, tmp_path: Path) -> None:
    own, stranger = signer(), signer()
    other = build([layer_tar({"b": b"2"})])
    check = demanding(own.write(tmp_path / "k.pub"))
    by_stranger, of_other = Signing(), Signing()
    by_stranger.keep(simple(stranger, image.digest), sig_tag(image.digest))
    await _refused(by_stranger, image, check, "none of its 1 signatures is by a trusted key")
    # A signature of another image, moved to this one's place.
    of_other.keep(simple(own, other.digest), sig_tag(image.digest))
    await _refused(of_other, image, check, "none of its 1 signatures is by a trusted key")


async def test_a_payload_that_was_changed_does_not_count(image: BuiltImage, tmp_path: Path) -> None:
    own = signer()
    other = build([layer_tar({"b": b"2"})])
    signed, signing = simple(own, other.digest), Signing()
    # The other image's signature beside a payload that names this one.
    forged = simple(own, image.digest)
    document = json.loads(forged.manifest)
    document["layers"][0]["annotations"] = json.loads(signed.manifest)["layers"][0]["annotations"]
    signing.keep(BuiltImage(json.dumps(document).encode(), forged.manifest_type, b"{}", forged.layers, ()))
    signing.tags[sig_tag(image.digest)] = (json.dumps(document).encode(), forged.manifest_type)
    await _refused(signing, image, demanding(own.write(tmp_path / "k.pub")), "none of its 1 signatures")


async def test_an_attestation_by_the_right_key_does_not_sign(image: BuiltImage, tmp_path: Path) -> None:
    own, signing = signer(), Signing()
    artifact = bundle(own, image.digest, "https://slsa.dev/provenance/v1")
    signing.keep(artifact)
    signing.referrers[image.digest] = listed(artifact)
    await _refused(signing, image, demanding(own.write(tmp_path / "k.pub")), "it is not signed")


async def test_one_key_of_several_and_one_signature_of_several_are_enough(image: BuiltImage, tmp_path: Path) -> None:
    first, second, stranger, signing = signer("rsa"), signer("ed25519"), signer(), Signing()
    good, bad = simple(second, image.digest), simple(stranger, image.digest)
    document = json.loads(bad.manifest)
    document["layers"] += json.loads(good.manifest)["layers"]
    both = BuiltImage(json.dumps(document).encode(), bad.manifest_type, b"{}", (*bad.layers, *good.layers), ())
    signing.keep(both, sig_tag(image.digest))
    rule = {"repository": "*", "keys": [first.write(tmp_path / "1.pub"), second.write(tmp_path / "2.pub")]}
    check = SignatureCheck(policy.parse([rule]))
    async with ScriptedRegistry(image, bend=signing.answer) as registry, Client(signatures=check) as client:
        await client.pull(registry.reference)


async def test_signed_for_another_repository_is_refused_where_that_matters(image: BuiltImage, tmp_path: Path) -> None:
    own, signing = signer(), Signing()
    key = own.write(tmp_path / "k.pub")
    signing.keep(simple(own, image.digest, "registry.test/other/app"), sig_tag(image.digest))
    await _refused(signing, image, demanding(key, **{"same-repository": True}), "none of its 1 signatures")
    async with ScriptedRegistry(image, bend=signing.answer) as registry, Client(signatures=demanding(key)) as client:
        await client.pull(registry.reference)
    async with ScriptedRegistry(image, bend=signing.answer) as registry:
        signing.keep(simple(own, image.digest, registry.reference), sig_tag(image.digest))
        async with Client(signatures=demanding(key, **{"same-repository": True})) as client:
            await client.pull(registry.reference)


@pytest.mark.parametrize("signed", ["index", "manifest"])
async def test_the_index_or_the_platforms_manifest_may_be_what_is_signed(
    image: BuiltImage, signed: str, tmp_path: Path
) -> None:
    own, signing = signer(), Signing()
    index = index_of(image)
    top = BuiltImage(index, OCI_INDEX, b"", (), ())
    signing.tags["latest"] = (index, OCI_INDEX)
    digest = top.digest if signed == "index" else image.digest
    signing.keep(simple(own, digest), sig_tag(digest))
    check = demanding(own.write(tmp_path / "k.pub"))
    async with ScriptedRegistry(image, bend=signing.answer) as registry, Client(signatures=check) as client:
        await client.pull(registry.reference)
        assert client.images.names == {f"{registry.reference}:latest": top.digest}


async def test_a_tag_that_moves_after_the_check_changes_nothing(image: BuiltImage, tmp_path: Path) -> None:
    own, signing = signer(), Signing()
    signing.keep(simple(own, image.digest), sig_tag(image.digest))
    evil = build([layer_tar({"evil": b"1"})])

    async def moves(request: web.Request) -> web.StreamResponse | None:
        answer = await signing.answer(request)
        if request.path.endswith(".sig"):
            # From now on the tag is another, unsigned image.
            signing.keep(evil, "latest")
        return answer

    check = demanding(own.write(tmp_path / "k.pub"))
    async with ScriptedRegistry(image, bend=moves) as registry, Client(signatures=check) as client:
        await client.pull(registry.reference)
        assert client.images.names == {f"{registry.reference}:latest": image.digest}
        with pytest.raises(errdefs.PermissionDenied, match="it is not signed"):
            await client.pull(registry.reference)
        assert client.images.names == {f"{registry.reference}:latest": image.digest}


async def test_a_registry_that_does_not_answer_is_not_a_signature(image: BuiltImage, tmp_path: Path) -> None:
    async def broken(request: web.Request) -> web.StreamResponse | None:
        return web.Response(status=500) if request.path.endswith(".sig") else None

    check = demanding(signer().write(tmp_path / "k.pub"))
    async with ScriptedRegistry(image, bend=broken) as registry, Client(signatures=check, attempts=2) as client:
        with pytest.raises(errdefs.Unavailable):
            await client.pull(registry.reference)
        client.check_nothing_named()


async def test_repositories_without_a_rule_are_asked_for_nothing_more(image: BuiltImage, tmp_path: Path) -> None:
    key: Signer = signer()
    rule = {"repository": "registry.test/*", "keys": [key.write(tmp_path / "k.pub")]}
    check = SignatureCheck(policy.parse([rule]))
    async with ScriptedRegistry(image) as registry, Client(signatures=check) as client:
        await client.pull(registry.reference)
        assert not registry.paths(".sig") and not registry.paths("referrers")
