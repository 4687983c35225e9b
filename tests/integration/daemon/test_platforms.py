"""One name, several platforms and what is attested of them: each parameter of the API has its effect, or is refused."""

import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support.busybox import rootfs_tar
from support.engine import Engine
from support.image import IN_TOTO, OCI_INDEX, PROVENANCE, BuiltImage, attestation, build, digest_of, index_of, layer_tar
from support.processes import wait_for
from support.registry import Registry, push_built, push_manifest

pytestmark = pytest.mark.root

ARM = {"os": "linux", "architecture": "arm64"}
AMD = {"os": "linux", "architecture": "amd64"}
SBOM = "https://spdx.dev/Document"


@pytest.fixture(scope="module")
def own() -> Iterator[Engine]:
    with Engine(own_network=False) as engine:
        yield engine


@dataclass(frozen=True)
class Published:
    """An index in a registry; both platforms are busybox, so both run here."""

    name: str
    index: bytes
    amd64: BuiltImage
    arm64: BuiltImage
    told: BuiltImage

    @property
    def digest(self) -> str:
        return digest_of(self.index)

    def blobs_of(self, image: BuiltImage) -> set[str]:
        return {digest.partition(":")[2] for digest in (image.digest, *image.blobs)}


@pytest.fixture
def published(own: Engine, tmp_path: Path) -> Iterator[Published]:
    images = {
        f"linux/{architecture}": build(
            [rootfs_tar(), layer_tar({"only": architecture.encode()})],
            {"Cmd": ["cat", "/only"]},
            architecture=architecture,
        )
        for architecture in ("amd64", "arm64")
    }
    amd64, arm64 = images.values()
    told = attestation(amd64.digest, {PROVENANCE: {"builder": "test"}, SBOM: {"packages": []}})
    index = index_of(images, {amd64.digest: told})
    with Registry(tmp_path / "r") as registry:
        for number, image in enumerate((amd64, arm64, told)):
            push_built(registry, "multi", image, f"part{number}")
        push_manifest(registry, "multi", "1", index, OCI_INDEX)
        name = f"{registry.address}/multi:1"
        yield Published(name, index, amd64, arm64, told)
        own.docker("rmi", "-f", name, code=None)


def blobs(engine: Engine) -> set[str]:
    return {path.name for path in (engine.data / "content/blobs/sha256").iterdir()}


def inspected(engine: Engine, name: str, query: str = "") -> Any:
    answer = engine.api("GET", f"/v1.56/images/{quote(name, safe='')}/json?{query}")
    assert answer.status == 200, answer.body
    return answer.json


def as_json(platform: dict[str, str]) -> str:
    return quote(json.dumps(platform))


def test_a_pull_keeps_the_attestations_of_its_platform(own: Engine, published: Published) -> None:
    own.docker("pull", "-q", published.name)
    assert published.blobs_of(published.told) <= blobs(own)
    assert not published.blobs_of(published.arm64) & blobs(own) - published.blobs_of(published.amd64)
    amd64, arm64, told = inspected(own, published.name, "manifests=1")["Manifests"]
    assert (amd64["Kind"], amd64["Available"], amd64["ID"]) == ("image", True, published.amd64.digest)
    assert (arm64["Kind"], arm64["Available"]) == ("image", False)
    assert (told["Kind"], told["Available"]) == ("attestation", True)
    assert told["AttestationData"]["For"] == published.amd64.digest
    # A second pull changes nothing.
    assert "Image is up to date" in own.docker.out("pull", published.name)


def test_attestations_are_listed_by_type_and_platform(own: Engine, published: Published) -> None:
    own.docker("pull", "-q", published.name)
    path = f"/v1.56/images/{quote(published.name, safe='')}/attestations"
    provenance, sbom = own.api("GET", path).json
    assert (provenance["PredicateType"], sbom["PredicateType"]) == (PROVENANCE, SBOM)
    assert provenance["Descriptor"]["mediaType"] == IN_TOTO
    assert provenance["Descriptor"]["digest"] == digest_of(published.told.layers[0])
    assert "Statement" not in provenance
    (found,) = own.api("GET", f"{path}?type={quote(PROVENANCE)}&type=other&statement=1").json
    assert found["Statement"] == json.loads(published.told.layers[0])
    assert own.api("GET", f"{path}?type=other").json == []
    # The other platform is in the index, and nothing is attested of it; a third one is not.
    assert own.api("GET", f"{path}?platform={as_json(ARM)}").json == []
    assert own.api("GET", f"{path}?platform={as_json({'os': 'linux', 'architecture': 's390x'})}").status == 404
    assert own.api("GET", f"{path}?platform=linux").status == 400
    two = own.api("GET", f"{path}?platform={as_json(ARM)}&platform={as_json(AMD)}")
    assert (two.status, two.message) == (400, "only one platform value is currently supported")
    assert own.api("GET", "/v1.56/images/busybox/attestations").json == []
    assert own.api("GET", "/v1.56/images/absent/attestations").status == 404


def test_a_second_platform_is_kept_beside_the_first(own: Engine, published: Published) -> None:
    docker, name = own.docker, published.name
    docker("pull", "-q", name)
    docker("pull", "-q", "--platform", "linux/arm64", name)
    both = inspected(own, name)
    assert both["Id"] == digest_of(published.amd64.config) and both["RepoDigests"][0].endswith(published.digest)
    for platform, image in (("linux/amd64", published.amd64), ("linux/arm64", published.arm64)):
        found = json.loads(docker.out("image", "inspect", "--platform", platform, name))[0]
        assert found["Id"] == digest_of(image.config) and found["Descriptor"]["digest"] == image.digest
        assert found["RepoTags"] == [name]
        assert docker.out("run", "--rm", "--pull=never", "--platform", platform, name) == platform.partition("/")[2]
        # What rorqual sends is what docker sends.
        assert json.loads(own.rorqual.out("image", "inspect", "--platform", platform, name))[0]["Id"] == found["Id"]
        assert len(own.rorqual.out("history", "-q", "--platform", platform, name).split("\n")) == 2
    assert [m["Available"] for m in inspected(own, name, "manifests=1")["Manifests"]] == [True, True, True]
    trees = [re.sub(r"\x1b\[[0-9;]*m", "", cli("images", "--tree").out) for cli in (docker, own.rorqual)]
    stock, ours = ([line.rstrip() for line in tree.splitlines()] for tree in trees)
    assert ours == stock and sum("linux/" in line for line in ours) >= 2
    missing = docker("image", "inspect", "--platform", "linux/s390x", name, code=1).err
    assert f"image with reference {name} was found but does not provide the specified platform (linux/s390x)" in missing
    # A daemon that starts anew finds both, and a container of the second is an image's.
    own.restart()
    docker("run", "--name", "other", "--platform", "linux/arm64", name, "touch", "/new")
    committed = docker.out("commit", "other")
    assert json.loads(docker.out("image", "inspect", committed))[0]["Architecture"] == "arm64"
    docker("rm", "other")
    docker("rmi", committed)
    # Removed, both are gone with everything that was only theirs.
    docker("rmi", name)
    theirs = published.blobs_of(published.amd64) | published.blobs_of(published.arm64)
    theirs |= published.blobs_of(published.told)
    wait_for(lambda: not theirs & blobs(own), "the blobs of both are collected")


def test_the_other_platforms_own_id_means_that_platform(own: Engine, published: Published) -> None:
    docker, name = own.docker, published.name
    docker("pull", "-q", name)
    docker("pull", "-q", "--platform", "linux/arm64", name)
    id = digest_of(published.arm64.config)
    assert inspected(own, id)["Architecture"] == "arm64" and docker.out("run", "--rm", id) == "arm64"
    refused = docker("rmi", "-f", id, code=1).err
    assert f"it is one platform of {published.digest}" in refused
    docker("tag", id, "alone:1")
    docker("rmi", name)
    assert inspected(own, "alone:1")["Descriptor"]["digest"] == published.arm64.digest
    wait_for(lambda: published.digest.partition(":")[2] not in blobs(own), "the index is collected")
    own.restart()
    assert docker.out("run", "--rm", "alone:1") == "arm64"
    assert f"Deleted: {id}" in docker.out("rmi", "alone:1")


def test_the_first_platform_may_be_another_machines(own: Engine, published: Published) -> None:
    own.docker("pull", "-q", "--platform", "linux/arm64", published.name)
    assert inspected(own, published.name)["Architecture"] == "arm64"
    own.docker("pull", "-q", published.name)
    assert inspected(own, published.name)["Architecture"] == "amd64"
    assert own.docker.out("images", "-f", "dangling=true", "-q") == ""


def test_one_platform_is_removed_and_the_other_stays(own: Engine, published: Published) -> None:
    docker, name = own.docker, published.name
    docker("pull", "-q", name)
    docker("pull", "-q", "--platform", "linux/arm64", name)
    refused = docker("rmi", "--platform", "linux/amd64", name, code=1).err
    assert "Content will be removed from all images referencing this variant. Use" in refused
    removed = docker.out("rmi", "--platform", "linux/amd64", "--force", name)
    assert f"Deleted: {published.amd64.digest}" in removed and f"Deleted: {published.told.digest}" in removed
    shared = published.blobs_of(published.amd64) & published.blobs_of(published.arm64)
    gone = published.blobs_of(published.amd64) | published.blobs_of(published.told)
    # When the answer comes the rows are gone; the files are being removed.
    wait_for(lambda: not (gone - shared) & blobs(own), "what was only the platform's is collected")
    assert published.blobs_of(published.arm64) <= blobs(own)
    assert inspected(own, name)["Architecture"] == "arm64"
    assert docker.out("run", "--rm", "--pull=never", "--platform", "linux/arm64", name) == "arm64"
    # The last one goes with the name; what the client before API 1.50 sends for the whole image is the whole image.
    last = docker.out("rmi", "--platform", "linux/arm64", "--force", name)
    assert f"Untagged: {name}" in last and docker("image", "inspect", name, code=1)
    assert "unable to" not in docker.out("pull", "-q", name)
    assert own.api("DELETE", f"/v1.49/images/{name}?platforms={as_json(ARM)}").status == 200
    assert docker("image", "inspect", name, code=1)


def test_one_platform_or_the_whole_index_is_pushed(own: Engine, published: Published, tmp_path: Path) -> None:
    docker, name = own.docker, published.name
    docker("pull", "-q", name)
    docker("pull", "-q", "--platform", "linux/arm64", name)
    with Registry(tmp_path / "second") as registry:
        copy = f"{registry.address}/copy:1"
        docker("tag", name, copy)
        docker("push", "-q", "--platform", "linux/arm64", copy)
        assert _served(registry, "copy", "1") == published.arm64.manifest
        docker("push", "-q", copy)
        assert _served(registry, "copy", "1") == published.index
        assert _served(registry, "copy", published.told.digest) == published.told.manifest
        identity = inspected(own, copy)["Identity"]["Pull"]
        assert {one["Repository"] for one in identity} == {name.rpartition(":")[0], copy.rpartition(":")[0]}
        missing = docker("push", "--platform", "linux/s390x", copy, code=1).err
        assert "was found but does not provide the specified platform (linux/s390x)" in missing
        docker("rmi", copy)


def _served(registry: Registry, name: str, target: str) -> bytes:
    connection = registry.connection()
    accept = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    accept += "application/vnd.docker.distribution.manifest.v2+json"
    connection.request("GET", f"/v2/{name}/manifests/{target}", headers={"Accept": accept})
    body = connection.getresponse().read()
    connection.close()
    return body


def _names(archive: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name.rpartition("/")[2] for member in tar.getmembers()}


def test_an_index_is_saved_and_loaded_whole_or_by_platform(own: Engine, published: Published) -> None:
    docker, name = own.docker, published.name
    docker("pull", "-q", name)
    docker("pull", "-q", "--platform", "linux/arm64", name)
    amd64, arm64, told = (published.blobs_of(i) for i in (published.amd64, published.arm64, published.told))
    path = f"/v1.56/images/get?names={quote(name)}"
    whole = own.api("GET", path).body
    assert amd64 | arm64 | told | {published.digest.partition(":")[2]} <= _names(whole)
    one = own.api("GET", f"{path}&platform={as_json(ARM)}").body
    assert arm64 <= _names(one) and not (amd64 - arm64 | told) & _names(one)
    both = own.api("GET", f"{path}&platform={as_json(ARM)}&platform={as_json(AMD)}").body
    assert amd64 | arm64 <= _names(both)
    many = own.api("GET", f"/v1.51/images/get?names={quote(name)}&platform={as_json(ARM)}&platform={as_json(AMD)}")
    assert many.status == 400 and "use API version 1.52 or later" in many.message
    missing = own.api("GET", f"{path}&platform={as_json({'os': 'linux', 'architecture': 's390x'})}")
    assert missing.status == 404 and "does not provide the specified platform" in missing.message
    docker("rmi", name)

    docker("load", stdin=whole)
    assert inspected(own, name)["RepoDigests"][0].endswith(published.digest)
    assert [m["Available"] for m in inspected(own, name, "manifests=1")["Manifests"]] == [True, True, True]
    assert docker.out("run", "--rm", "--pull=never", "--platform", "linux/arm64", name) == "arm64"
    docker("rmi", name)
    docker("load", "--platform", "linux/arm64", stdin=whole)
    assert [m["Available"] for m in inspected(own, name, "manifests=1")["Manifests"]] == [False, True, False]
    docker("rmi", name)
    docker("load", stdin=one)
    assert inspected(own, name)["Descriptor"]["digest"] == published.arm64.digest
    docker("rmi", name)
    refused = docker("load", "--platform", "linux/s390x", stdin=whole, code=1).err
    assert "requested platform(s) ([linux/s390x]) not found" in refused


def test_what_cannot_be_asked_for_is_refused_in_dockers_words(own: Engine, published: Published) -> None:
    own.docker("pull", "-q", published.name)
    base = f"/v1.56/images/{quote(published.name, safe='')}"
    cases = {
        f"{base}/json?manifests=1&platform={as_json(AMD)}": "manifests and platform options cannot both be set",
        f"{base}/json?platform=linux": "failed to parse platform",
        f"{base}/history?platform={quote('{}')}": "both OS and Architecture must be provided",
        f"{base}/history?platform={as_json({'variant': 'v8'})}": "but OS and Architecture are missing",
        "/v1.56/images/json?identity=1": "identity requires manifests=1",
    }
    for path, text in cases.items():
        answer = own.api("GET", path)
        assert answer.status == 400 and text in answer.message, path
    # Parameters that came later mean nothing to older versions of the API.
    assert own.api("GET", f"/v1.47{base.removeprefix('/v1.56')}/history?platform=nonsense").status == 200
    assert "Identity" not in own.api("GET", f"/v1.52{base.removeprefix('/v1.56')}/json").json
    (listed,) = (
        image
        for image in own.api("GET", "/v1.56/images/json?manifests=1&identity=1").json
        if published.name in image["RepoTags"]
    )
    named = published.name.rpartition(":")[0]
    assert listed["Manifests"][0]["ImageData"]["Identity"] == {"Pull": [{"Repository": named}]}
    assert "Identity" not in listed["Manifests"][1]["ImageData"]
