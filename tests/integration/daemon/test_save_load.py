"""Archives of images: our own, Docker's, skopeo's and OCI layouts; both ways, and hostile ones refused."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import zstandard
from support import image, tars
from support.engine import Engine
from support.peer import Dockerd
from support.processes import wait_for

pytestmark = pytest.mark.root

CONFIG = {"architecture": "amd64", "os": "linux"}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def inspect(engine: Engine, name: str) -> dict:  # type: ignore[type-arg]
    return json.loads(engine.docker.out("image", "inspect", name))[0]


def archive(files: Mapping[str, bytes], *, links: Mapping[str, str] | None = None) -> bytes:
    parts = [tars.member(name.encode(), data) for name, data in files.items()]
    parts += [tars.symlink(name.encode(), target.encode()) for name, target in (links or {}).items()]
    return b"".join(parts) + tars.END


def docker_archive(layers: dict[str, bytes], names: list[str], order: list[str] | None = None) -> dict[str, bytes]:
    """An archive as dockerd 20.10 writes it."""
    order = order or list(layers)
    plain = [layers.get(name, b"") for name in order]
    config = json.dumps({**CONFIG, "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha(p)}" for p in plain]}})
    listed = [{"Config": f"{sha(config.encode())}.json", "RepoTags": names, "Layers": order}]
    return {
        **layers,
        f"{sha(config.encode())}.json": config.encode(),
        "manifest.json": json.dumps(listed).encode(),
    }


@pytest.fixture
def made(engine: Engine) -> Iterator[str]:
    """An image of two layers."""
    engine.docker("run", "--name", "source", "busybox", "sh", "-c", "echo hi >/x; rm /etc/passwd; ln -s x /l")
    engine.docker("commit", "-m", "note", "-c", 'CMD ["cat","/x"]', "source", "saved:1")
    engine.docker("rm", "source")
    yield "saved:1"
    engine.docker("rmi", "-f", "saved:1", code=None)


def snapshots(engine: Engine) -> set[str]:
    return {path.name for path in (engine.data / "snapshots/overlayfs").iterdir()}


# ---- ourselves ----


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_what_was_saved_is_loaded_again_byte_for_byte(engine: Engine, made: str, compress: object) -> None:
    docker = engine.docker
    docker("tag", made, "saved:2")
    before = inspect(engine, made)
    data = engine.root / "saved.tar"
    docker("save", "-o", str(data), "saved", "busybox")
    docker("rmi", made, "saved:2")
    whole = data.read_bytes()
    loaded = docker("load", stdin=compress(whole)).out  # type: ignore[operator]
    assert sorted(loaded.splitlines()) == [
        "Loaded image: busybox:latest",
        "Loaded image: saved:1",
        "Loaded image: saved:2",
    ]
    after = inspect(engine, made)
    for key in ("Id", "RepoDigests", "RootFS", "Created", "Config", "Comment", "Size"):
        assert after[key] == before[key]
    assert docker.out("run", "--rm", made) == "hi"
    docker("save", "-o", str(data), "saved", "busybox")
    assert data.read_bytes() == whole
    docker("rmi", "saved:2")


def test_an_image_saved_by_id_has_no_name_afterwards(engine: Engine, made: str) -> None:
    docker = engine.docker
    id = inspect(engine, made)["Id"]
    data = subprocess.run([*docker.argv, "save", id], env=docker.environment, capture_output=True, check=True).stdout
    docker("rmi", made)
    assert docker.out("load", stdin=data) == f"Loaded image ID: {id}"
    assert inspect(engine, id)["RepoTags"] == []
    docker("rmi", id)


def test_a_name_that_moves_is_told_and_the_old_image_kept(engine: Engine, made: str) -> None:
    docker = engine.docker
    data = subprocess.run([*docker.argv, "save", made], env=docker.environment, capture_output=True, check=True).stdout
    new = inspect(engine, made)["Id"]
    docker("tag", "busybox", made)
    docker("rmi", new, code=None)
    lines = docker.out("load", stdin=data).splitlines()
    assert lines[-1] == f"Loaded image: {made}"
    assert inspect(engine, made)["Id"] == new


def test_saving_what_is_not_here_is_an_error_before_any_byte(engine: Engine) -> None:
    assert engine.docker("save", "nothing:1", code=1).err.strip().endswith("No such image: nothing:1")
    failed = engine.docker("save", "--platform", "linux/arm64", "busybox", code=1)
    assert "does not provide the specified platform" in failed.err


# ---- what others write ----


def test_layers_of_an_old_archive_may_be_links_and_serve_twice(engine: Engine) -> None:
    shared, other = image.layer_tar({"a": b"1"}), image.layer_tar({"b": b"2"})
    files = docker_archive({"one/layer.tar": shared, "two/layer.tar": other}, ["old:1"])
    config = json.dumps(
        {**CONFIG, "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha(x)}" for x in (other, shared, shared)]}}
    ).encode()
    listed = json.loads(files["manifest.json"])
    listed.append(
        {
            "Config": f"{sha(config)}.json",
            "RepoTags": ["old:2"],
            "Layers": ["two/layer.tar", "three/layer.tar", "one/layer.tar"],
        }
    )
    files |= {f"{sha(config)}.json": config, "manifest.json": json.dumps(listed).encode()}
    data = archive(files, links={"three/layer.tar": "../one/layer.tar"})
    assert engine.docker.out("load", "-q", stdin=data) == "Loaded image: old:1\nLoaded image: old:2"
    assert inspect(engine, "old:2")["Id"] == f"sha256:{sha(config)}"
    engine.docker("rmi", "old:1", "old:2")


def test_skopeo_and_umoci_read_ours_and_we_read_skopeos(engine: Engine, made: str, tmp_path: Path) -> None:
    if not shutil.which("skopeo") or not shutil.which("umoci"):
        pytest.skip("skopeo or umoci is not installed")
    docker = engine.docker
    before = inspect(engine, made)
    docker("save", "-o", str(tmp_path / "ours.tar"), made)

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)

    run("skopeo", "copy", "oci-archive:ours.tar:1", "oci:layout:name")
    run("skopeo", "copy", f"docker-archive:ours.tar:{made}", "docker-archive:theirs.tar:theirs:1")
    run("skopeo", "copy", "oci:layout:name", "oci-archive:theirs-oci.tar:docker.io/library/theirs:2")
    run("umoci", "unpack", "--image", "layout:name", "bundle")
    assert (tmp_path / "bundle/rootfs/x").read_text() == "hi\n"
    assert not (tmp_path / "bundle/rootfs/etc/passwd").exists()
    docker("rmi", made)
    assert docker.out("load", "-q", "-i", str(tmp_path / "theirs.tar")) == "Loaded image: theirs:1"
    assert docker.out("load", "-q", "-i", str(tmp_path / "theirs-oci.tar")) == "Loaded image: theirs:2"
    for name in ("theirs:1", "theirs:2"):
        assert inspect(engine, name)["RootFS"] == before["RootFS"]
        assert docker.out("run", "--rm", name) == "hi"
    docker("rmi", "theirs:1", "theirs:2")


def test_dockerd_loads_ours_and_we_load_what_it_saves(engine: Engine, made: str, tmp_path: Path) -> None:
    if not shutil.which("dockerd"):
        pytest.skip("dockerd is not installed")
    before = inspect(engine, made)
    ours, theirs = tmp_path / "ours.tar", tmp_path / "theirs.tar"
    engine.docker("save", "-o", str(ours), made)
    engine.docker("rmi", made)
    with Dockerd(image=False) as peer:
        assert peer.docker.out("load", "-q", "-i", str(ours)) == f"Loaded image: {made}"
        there = json.loads(peer.docker.out("image", "inspect", made))[0]
        assert (there["Id"], there["RootFS"]) == (before["Id"], before["RootFS"])
        peer.docker("save", "-o", str(theirs), made)
        peer.docker("rmi", made)
    assert engine.docker.out("load", "-q", "-i", str(theirs)) == f"Loaded image: {made}"
    after = inspect(engine, made)
    assert (after["Id"], after["RootFS"]) == (before["Id"], before["RootFS"])
    assert engine.docker.out("run", "--rm", made) == "hi"


# ---- hostile ----

LAYER = image.layer_tar({"f": b"content"})
GOOD = docker_archive({"l/layer.tar": LAYER}, ["bad:1"])


def with_manifest(**changes: object) -> dict[str, bytes]:
    listed = json.loads(GOOD["manifest.json"])
    listed[0] |= changes
    return {**GOOD, "manifest.json": json.dumps(listed).encode()}


def wrong_diff_id() -> dict[str, bytes]:
    return {**GOOD, "l/layer.tar": image.layer_tar({"f": b"other"})}


def layout(manifest: dict[str, object], config: bytes = b"{}", **blobs: bytes) -> dict[str, bytes]:
    raw = json.dumps(manifest).encode()
    entry = {"mediaType": manifest.get("mediaType", image.DOCKER_MANIFEST), "digest": f"sha256:{sha(raw)}"}
    index = {"schemaVersion": 2, "manifests": [{**entry, "size": len(raw)}]}
    return {
        f"blobs/sha256/{sha(raw)}": raw,
        f"blobs/sha256/{sha(config)}": config,
        **blobs,
        "index.json": json.dumps(index).encode(),
    }


HOSTILE = {
    "empty": (tars.END, "it is empty"),
    "no list": (archive({"x": b"{}"}), "does not contain a manifest.json"),
    "not a tar": (b"root:x:0:0::/root:/bin/sh\n" * 100, "tar header"),
    "cut": (archive(GOOD)[:-2048], ""),
    "outside": (archive({"../../etc/canary": b"x", **GOOD}), "leads out of it"),
    "absolute": (archive({"/etc/canary": b"x", **GOOD}), "leads out of it"),
    "link outside": (archive(GOOD, links={"l2/layer.tar": "../../../etc/passwd"}), "leads out of it"),
    "absolute link": (archive(GOOD, links={"l2/layer.tar": "/etc/passwd"}), "leads out of it"),
    "link circle": (
        archive(with_manifest(Layers=["a"]), links={"a": "b", "b": "a"}),
        "too many links",
    ),
    "device": (tars.header(b"dev", b"3", major=1, minor=3) + archive(GOOD), "neither a file nor a link"),
    "layer missing": (archive(with_manifest(Layers=["other/layer.tar"])), "is missing"),
    "layer too many": (archive(with_manifest(Layers=["l/layer.tar"] * 2)), "length mismatch"),
    "config missing": (archive(with_manifest(Config="none.json")), "is missing"),
    "diff id": (archive(wrong_diff_id()), "invalid diffID for layer 0"),
    "tag": (archive(with_manifest(RepoTags=["UPPER:1"])), "must be lowercase"),
    "no tag": (archive(with_manifest(RepoTags=["name"])), "invalid tag"),
    "list": (archive({**GOOD, "manifest.json": b'{"Config": 1}'}), "must be a list"),
    "blob digest": (archive({**GOOD, "blobs/sha256/" + "a" * 64: b"{}"}), "another digest"),
    "layer digest": (archive({**GOOD, "blobs/sha256/" + "a" * 64: LAYER}), "unexpected commit digest"),
    "ambiguous": (
        archive(layout({"schemaVersion": 2, "config": {}, "layers": [], "manifests": []})),
        "ambiguous",
    ),
    "bomb": (
        archive({**GOOD, "l/layer.tar": gzip.compress(tars.member(b"x") * 4 + tars.header(b"x", size=1 << 60))}),
        "",
    ),
    "documents": (archive({f"{n}.json": b"{" + b" " * (15 << 20) for n in range(5)}), "larger than a document may be"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(engine: Engine, case: str) -> None:
    data, text = HOSTILE[case]
    before, images = snapshots(engine), engine.docker.out("images", "-aq", "--no-trunc")
    failed = engine.docker("load", "-q", stdin=data, code=1)
    assert text in failed.err, failed
    assert engine.docker.out("images", "-aq", "--no-trunc") == images
    wait_for(lambda: snapshots(engine) <= before, "the layers of a refused archive are removed")


def test_a_client_that_goes_away_leaves_nothing(engine: Engine) -> None:
    before = snapshots(engine)
    big = tars.member(b"big", bytes(64 << 20))
    data = archive({"l/layer.tar": big, **GOOD})
    with engine.docker.started("load", "-q") as client:
        assert client.stdin is not None
        client.stdin.write(data[: 40 << 20])
        client.stdin.flush()
        client.kill()
        client.wait()
    wait_for(lambda: snapshots(engine) <= before, "the layer of an archive that was cut is removed")
    assert isinstance(tarfile.open(fileobj=io.BytesIO(data)), tarfile.TarFile)  # noqa: SIM115
