"""Images between this engine and the tools of others, both ways: IDs, layers, history and digests agree."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.busybox import rootfs_tar
from support.engine import Engine
from support.image import OCI_INDEX, PROVENANCE, attestation, build, digest_of, index_of, layer_tar
from support.peer import Dockerd
from support.registry import Registry, push_built, push_manifest

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def own() -> Iterator[Engine]:
    with Engine(own_network=False) as engine:
        yield engine


@pytest.fixture
def made(own: Engine) -> Iterator[str]:
    """An image of three layers, one with what layers find hard, with history and labels."""
    docker = own.docker
    script = "echo hi >/x; rm /etc/passwd; ln /x /hard; ln -s x /soft; mkfifo /pipe; chmod 4755 /x; touch -d @1 /old"
    docker("run", "--name", "m1", "busybox", "sh", "-c", script)
    docker("commit", "-m", "first", "-c", "LABEL a=b", "-c", "ENV E=1", "m1", "interop:base")
    docker("run", "--name", "m2", "interop:base", "sh", "-c", "rm -rf /home; mkdir /home; echo 2 >/home/two")
    docker("commit", "-a", "somebody", "-m", "second", "-c", 'CMD ["cat","/x","/home/two"]', "m2", "interop:1")
    docker("rm", "m1", "m2")
    yield "interop:1"
    docker("rmi", "-f", "interop:1", "interop:base", code=None)


def needs(*programs: str) -> None:
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")


def run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def facts(engine: Engine, name: str) -> dict[str, Any]:
    """What must be the same wherever the image has been."""
    found = json.loads(engine.docker.out("image", "inspect", name))[0]
    lines = engine.docker.out("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", name)
    kept = ("Id", "Created", "Author", "Architecture", "Os")
    return {
        **{key: found[key] for key in kept},
        "layers": found["RootFS"]["Layers"],
        "config": {key: found["Config"].get(key) for key in ("Cmd", "Env", "Labels", "Entrypoint", "User")},
        "history": lines.split("\n"),
    }


class Podman:
    """podman with a store of its own, without a daemon; nothing is run by it."""

    def __init__(self) -> None:
        # Short: podman refuses a run directory of more than 50 characters.
        self._directory = tempfile.mkdtemp(prefix="rqp-", dir="/tmp")
        self._argv = ["podman", "--root", f"{self._directory}/root", "--runroot", f"{self._directory}/run"]
        self._argv += ["--storage-driver", "vfs", "--events-backend", "none"]

    def __enter__(self) -> "Podman":
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", f"{self._directory}/root/vfs"], check=False, capture_output=True)
        shutil.rmtree(self._directory, ignore_errors=True)

    def __call__(self, *arguments: str) -> str:
        return run(*self._argv, *arguments)


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_podman_loads_ours_and_we_load_what_it_saves(own: Engine, made: str, form: str, tmp_path: Path) -> None:
    needs("podman")
    before = facts(own, made)
    ours, theirs = str(tmp_path / "ours.tar"), str(tmp_path / "theirs.tar")
    own.docker("save", "-o", ours, made)
    name = f"docker.io/library/{made}"
    with Podman() as podman:
        podman("load", "-q", "-i", ours)
        there = json.loads(podman("image", "inspect", name))[0]
        podman("save", "-q", "--format", form, "-o", theirs, name)
    assert there["Id"] == before["Id"].removeprefix("sha256:") and there["RootFS"]["Layers"] == before["layers"]
    assert [entry.get("comment", "") for entry in there["History"]][::-1] == [
        line.partition("|")[2] for line in before["history"]
    ]
    own.docker("rmi", "-f", made)
    own.docker("load", "-q", "-i", theirs)
    after = facts(own, made)
    if form == "oci-archive":
        # podman writes the config anew in OCI's form, without Docker's own fields.
        before["Id"], before["Author"] = after["Id"], after["Author"]
    assert after == before
    assert own.docker.out("run", "--rm", made) == "hi\n2"


def _skopeo(*arguments: str, cwd: Path) -> None:
    run("skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", *arguments, cwd=cwd)


def test_skopeo_and_umoci_take_what_we_pushed_and_we_pull_what_they_push(
    own: Engine, made: str, tmp_path: Path
) -> None:
    needs("skopeo", "umoci")
    docker, before = own.docker, facts(own, made)
    with Registry(tmp_path / "r") as registry:
        ours = f"{registry.address}/ours:1"
        docker("tag", made, ours)
        docker("push", "-q", ours)
        _skopeo(f"docker://{ours}", "oci:layout:one", cwd=tmp_path)
        run("umoci", "unpack", "--image", "layout:one", "bundle", cwd=tmp_path)
        root = tmp_path / "bundle/rootfs"
        assert (root / "home/two").read_text() == "2\n" and not (root / "etc/passwd").exists()
        assert (root / "x").stat().st_mode & 0o7777 == 0o4755 and (root / "x").stat().st_nlink == 2
        assert (root / "pipe").is_fifo() and (root / "old").stat().st_mtime == 1
        # umoci finds nothing of what we wrote changed: owners, modes, times, links.
        run("umoci", "repack", "--image", "layout:two", "bundle", cwd=tmp_path)
        listed = json.loads((tmp_path / "layout/index.json").read_text())["manifests"]
        assert len({entry["digest"] for entry in listed}) <= 2
        theirs = f"{registry.address}/theirs:1"
        _skopeo("--format", "v2s2", "oci:layout:one", f"docker://{theirs}", cwd=tmp_path)
        docker("rmi", ours)
        docker("pull", "-q", theirs)
        after = facts(own, theirs)
        assert {**after, "Id": before["Id"]} == before
        assert docker.out("run", "--rm", theirs) == "hi\n2"
        # And straight from one registry's repository to another: not a byte of the config is touched.
        _skopeo(f"docker://{registry.address}/ours:1", f"docker://{registry.address}/copied:1", cwd=tmp_path)
        docker("pull", "-q", f"{registry.address}/copied:1")
        assert facts(own, f"{registry.address}/copied:1") == before
        docker("rmi", theirs, f"{registry.address}/copied:1")


def test_ctr_exports_ours_and_imports_what_we_saved(own: Engine, made: str, tmp_path: Path) -> None:
    needs("ctr")
    docker, before = own.docker, facts(own, made)
    address = str(own.exec / "containerd" / "containerd.sock")

    def ctr(namespace: str, *arguments: str) -> str:
        return run("ctr", "--address", address, "--namespace", namespace, *arguments)

    name = f"docker.io/library/{made}"
    ctr("moby", "images", "export", str(tmp_path / "exported.tar"), name)
    docker("save", "-o", str(tmp_path / "saved.tar"), made)
    digest = docker.out("image", "inspect", "-f", "{{.Descriptor.Digest}}", made)
    docker("rmi", "-f", made)
    docker("load", "-q", "-i", str(tmp_path / "exported.tar"))
    assert facts(own, made) == before
    assert docker.out("image", "inspect", "-f", "{{.Descriptor.Digest}}", made) == digest
    ctr("elsewhere", "images", "import", str(tmp_path / "saved.tar"))
    assert digest in ctr("elsewhere", "images", "ls", f"name=={name}")
    ctr("elsewhere", "images", "rm", "--sync", name)
    ctr("elsewhere", "namespaces", "rm", "elsewhere")
    # What ctr brings into the engine's own namespace is the engine's.
    docker("rmi", "-f", made)
    ctr("moby", "images", "import", str(tmp_path / "saved.tar"))
    assert facts(own, made) == before


def test_an_index_that_we_saved_is_read_by_all(own: Engine, tmp_path: Path) -> None:
    needs("skopeo")
    docker = own.docker
    images = {
        f"linux/{architecture}": build(
            [rootfs_tar(), layer_tar({"only": architecture.encode()})],
            {"Cmd": ["cat", "/only"]},
            architecture=architecture,
        )
        for architecture in ("amd64", "arm64")
    }
    amd64 = images["linux/amd64"]
    told = attestation(amd64.digest, {PROVENANCE: {}})
    index = index_of(images, {amd64.digest: told})
    with Registry(tmp_path / "r") as registry:
        for number, part in enumerate((*images.values(), told)):
            push_built(registry, "multi", part, f"p{number}")
        push_manifest(registry, "multi", "1", index, OCI_INDEX)
        # One of the two platforms is here: the rest of the index is not in the archive.
        docker("pull", "-q", f"{registry.address}/multi:1")
        docker("tag", f"{registry.address}/multi:1", "multi:1")
        docker("rmi", f"{registry.address}/multi:1")
    docker("save", "-o", str(tmp_path / "multi.tar"), "multi:1")
    id = digest_of(amd64.config)
    assert docker.out("image", "inspect", "-f", "{{.Id}}", "multi:1") == id
    for source in ("oci-archive:multi.tar:1", "docker-archive:multi.tar:multi:1"):
        found = json.loads(run("skopeo", "inspect", "--config", "--override-arch=amd64", source, cwd=tmp_path))
        assert found["rootfs"]["diff_ids"] == list(amd64.diff_ids), source
    _load_in_peers(own, tmp_path, id, list(amd64.diff_ids))
    docker("rmi", "multi:1")


def _load_in_peers(own: Engine, directory: Path, id: str, layers: Sequence[str]) -> None:
    """podman's and dockerd's view of the archive, where they are installed."""
    if shutil.which("podman"):
        with Podman() as podman:
            podman("load", "-q", "-i", str(directory / "multi.tar"))
            there = json.loads(podman("image", "inspect", "multi:1"))[0]
        assert there["Id"] == id.removeprefix("sha256:") and there["RootFS"]["Layers"] == layers
    if shutil.which("dockerd"):
        with Dockerd(image=False) as peer:
            assert peer.docker.out("load", "-q", "-i", str(directory / "multi.tar")) == "Loaded image: multi:1"
            assert peer.docker.out("image", "inspect", "-f", "{{.Id}}", "multi:1") == id
            peer.docker("save", "-o", str(directory / "back.tar"), "multi:1")
            peer.docker("rmi", "multi:1")
        own.docker("rmi", "multi:1")
        assert own.docker.out("load", "-q", "-i", str(directory / "back.tar")) == "Loaded image: multi:1"
        assert own.docker.out("image", "inspect", "-f", "{{.Id}}", "multi:1") == id
