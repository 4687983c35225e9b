import json

import pytest

from rorqual.errdefs import InvalidArgument, NotFound
from rorqual.oci import digest, manifest, mediatypes, platform

D = "sha256:" + "a" * 64
CONFIG = {"mediaType": mediatypes.OCI_CONFIG, "digest": D, "size": 2}
LAYER = {"mediaType": mediatypes.OCI_LAYER_GZIP, "digest": D, "size": 3}


def document(**fields: object) -> bytes:
    return json.dumps({"schemaVersion": 2, **fields}).encode()


def test_an_image_manifest_keeps_its_bytes() -> None:
    raw = document(mediaType=mediatypes.OCI_MANIFEST, config=CONFIG, layers=[LAYER, LAYER]) + b"\n "
    found = manifest.parse(raw, mediatypes.OCI_MANIFEST)
    assert isinstance(found, manifest.Manifest)
    assert found.raw == raw and found.digest == digest.of(raw)
    assert [layer.size for layer in found.layers] == [3, 3]
    assert found.descriptor.size == len(raw)


def entry(os: str, architecture: str, variant: str = "", version: str = "") -> dict[str, object]:
    place = {"os": os, "architecture": architecture, "variant": variant, "os.version": version}
    return {
        "mediaType": mediatypes.OCI_MANIFEST,
        "digest": D,
        "size": hash((os, architecture, variant, version)) % 999 + 1,
        "platform": place,
    }


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("linux/amd64", ("linux", "amd64", "", "")),
        ("linux/amd64/v3", ("linux", "amd64", "v2", "")),
        ("linux/386", ("linux", "386", "", "")),
        ("linux/arm64", ("linux", "arm64", "v8", "")),
        ("linux/arm/v7", ("linux", "arm", "v7", "")),
        ("linux/arm/v6", ("linux", "arm", "v5", "")),
        ("linux/arm", ("linux", "arm", "v7", "")),
        ("windows(10.0.1.7)/amd64", ("windows", "amd64", "", "10.0.1.999")),
    ],
)
def test_an_index_chooses_the_best_fit(wanted: str, chosen: tuple[str, str, str, str]) -> None:
    offered = [
        ("linux", "arm", "v5", ""), ("linux", "arm", "v7", ""), ("linux", "arm64", "v8", ""), ("linux", "386", "", ""),
        ("linux", "amd64", "", ""), ("linux", "amd64", "v2", ""), ("windows", "amd64", "", "10.0.2.1"),
        ("windows", "amd64", "", "10.0.1.999"),
    ]  # fmt: skip
    index = manifest.parse(document(mediaType=mediatypes.OCI_INDEX, manifests=[entry(*place) for place in offered]))
    assert isinstance(index, manifest.Index)
    found = index.choose(platform.parse(wanted)).platform
    assert found is not None and (found.os, found.architecture, found.variant, found.os_version) == chosen


def test_no_fit_is_told_in_dockers_words() -> None:
    index = manifest.parse(document(mediaType=mediatypes.OCI_INDEX, manifests=[entry("linux", "amd64")]))
    assert isinstance(index, manifest.Index)
    with pytest.raises(NotFound, match=r"^no matching manifest for linux/s390x in the manifest list entries$"):
        index.choose(platform.parse("linux/s390x"))


@pytest.mark.parametrize(
    ("served", "raw"),
    [
        pytest.param("", document(config=CONFIG, layers=[LAYER], manifests=[]), id="layers and manifests"),
        pytest.param("", document(layers=[LAYER], manifests=[entry("linux", "amd64")]), id="no config but both"),
        pytest.param(mediatypes.OCI_INDEX, document(config=CONFIG, layers=[LAYER]), id="image served as index"),
        pytest.param(
            mediatypes.OCI_MANIFEST, document(manifests=[entry("linux", "amd64")]), id="index served as image"
        ),
        pytest.param(
            mediatypes.OCI_MANIFEST,
            document(mediaType=mediatypes.OCI_INDEX, manifests=[entry("linux", "amd64")]),
            id="mediaType disagrees with the header",
        ),
        pytest.param(
            "", document(mediaType=mediatypes.OCI_INDEX, config=CONFIG, layers=[LAYER]), id="mediaType and content"
        ),
        pytest.param("", b'{"schemaVersion":2,"layers":[],"layers":[]}', id="a key twice"),
    ],
)
def test_cve_2021_41190_manifest_confusion_is_refused(served: str, raw: bytes) -> None:
    with pytest.raises(InvalidArgument):
        manifest.parse(raw, served)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{" * 100_000,
        b"[" * 100_000,
        b"{}",
        document(),
        document(config=CONFIG, layers=[{**LAYER, "size": -1}]),
        document(config=CONFIG, layers=[{**LAYER, "size": 1 << 62}]),
        document(config=CONFIG, layers=[{**LAYER, "size": "3"}]),
        document(config=CONFIG, layers=[{**LAYER, "digest": "sha256:../../x"}]),
        document(config=CONFIG, layers=[LAYER] * 501),
        document(config=CONFIG, layers="x"),
        document(mediaType="application/x", config=CONFIG, layers=[]),
        document(config=CONFIG, layers=[]) + b" " * manifest.MAX_MANIFEST_BYTES,
    ],
)
def test_malformed_documents_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidArgument):
        manifest.parse(raw)


def test_schema_1_is_refused_clearly() -> None:
    with pytest.raises(InvalidArgument, match="no longer supported"):
        manifest.parse(b'{"schemaVersion": 1, "fsLayers": []}', mediatypes.DOCKER_SCHEMA1_SIGNED)
