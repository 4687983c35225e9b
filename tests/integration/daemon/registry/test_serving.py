"""The registry as its users meet it: TLS, passwords, restarts, large blobs, the engine's images, stock clients."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.containerd.conftest import Containerd
from integration.daemon.registry.conftest import Served, digest_of
from support.engine import Engine, command
from support.processes import wait_for
from support.registry import make_certificates

pytestmark = pytest.mark.root

USER = "alice:correct horse"
HTPASSWD = "alice:$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2\n"


def test_tls_and_passwords(registry_containerd: Containerd, tmp_path: Path, name: str) -> None:
    certificate, key = make_certificates(tmp_path)
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    arguments = (f"--tls-cert={certificate}", f"--tls-key={key}", f"--htpasswd={tmp_path}/htpasswd")
    served = Served(registry_containerd, *arguments, ca=tmp_path / "ca.crt", user=USER)
    try:
        registry_user = served.user
        assert served("GET", "/v2/").status == 200
        digest = served.push_blob(name, b"secret")
        assert served("GET", f"{name}/blobs/{digest}").body == b"secret"
        for user in ("", "alice:wrong", "bob:correct horse", "alice", registry_user + "x", "alice:correct\0horse"):
            served.user = user
            refused = served("GET", f"{name}/blobs/{digest}")
            assert (refused.status, refused.code) == (401, "UNAUTHORIZED")
            assert refused.headers["WWW-Authenticate"].startswith("Basic realm=")
    finally:
        served.stop()


@pytest.mark.parametrize("line", ["alice:plain", "alice", "alice:{SHA}abc=", "alice:$apr1$x$y"])
def test_other_passwords_than_bcrypts_are_refused_at_the_start(tmp_path: Path, line: str) -> None:
    (tmp_path / "htpasswd").write_text(f"{line}\n")
    argv = ["python", "-m", "rorqual.daemon.registry", "--containerd=x", "--root=x", f"--htpasswd={tmp_path}/htpasswd"]
    done = subprocess.run([command("python"), *argv[1:]], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "not a bcrypt entry" in done.stderr


def test_read_only(registry_containerd: Containerd, registry: Served, name: str) -> None:
    digest, _ = registry.push_image(name, "v1")
    served = Served(registry_containerd, "--read-only")
    try:
        assert served("GET", f"{name}/manifests/v1").status == 200
        for method, path in (("POST", "blobs/uploads/"), ("DELETE", "manifests/v1"), ("PUT", "manifests/v2")):
            refused = served(method, f"{name}/{path}", b"{}" if method == "PUT" else None)
            assert (refused.status, refused.code) == (405, "UNSUPPORTED")
        assert served("HEAD", f"{name}/manifests/{digest}").status == 200
    finally:
        served.stop()


def test_a_web_page_does_not_reach_the_registry(registry: Served) -> None:
    own = registry.address
    assert registry("GET", "_catalog", Host=own).status == 200
    assert registry("GET", "_catalog", Host=own, Origin=f"http://{own}").status == 200
    for fields in ({"Host": own, "Origin": "http://evil.example"}, {"Host": "evil.example:5000"}):
        answer = registry("GET", "_catalog", **fields)
        assert (answer.status, answer.code) == (403, "DENIED")
        assert registry("POST", "page/blobs/uploads/", **fields).status == 403


def test_an_upload_goes_on_after_the_registry_was_killed(registry_containerd: Containerd, name: str) -> None:
    data = secrets.token_bytes(200_000)
    served = Served(registry_containerd)
    try:
        where = served("POST", f"{name}/blobs/uploads/").headers["Location"]
        assert served("PATCH", where, data[:120_000]).status == 202
        served.stop(signal.SIGKILL)
        served.start()
        assert served("GET", where).headers["Range"] == "0-119999"
        assert served("PATCH", where, data[120_000:], Content_Range="120000-199999").status == 202
        assert served("PUT", f"{where}?digest={digest_of(data)}").status == 201
        assert served("GET", f"{name}/blobs/{digest_of(data)}").body == data
    finally:
        served.stop()


def test_a_large_blob_does_not_fill_the_memory(registry_containerd: Containerd, name: str) -> None:
    served = Served(registry_containerd)
    piece, count = secrets.token_bytes(4 << 20), 64
    whole = hashlib.sha256()
    for _ in range(count):
        whole.update(piece)
    try:
        served.push_blob(name, b"warm")
        before = served.memory_peak_kib()
        where = served("POST", f"{name}/blobs/uploads/").headers["Location"]
        assert served("PATCH", where, iter([piece] * count), Transfer_Encoding="chunked").status == 202
        assert served("PUT", f"{where}?digest=sha256:{whole.hexdigest()}").status == 201
        assert len(served("GET", f"{name}/blobs/sha256:{whole.hexdigest()}").body) == len(piece) * count
        assert served.memory_peak_kib() - before < 48 << 10
        assert served("DELETE", f"{name}/blobs/sha256:{whole.hexdigest()}").status == 202
    finally:
        served.stop()


def test_what_is_deleted_leaves_the_disk_and_what_is_needed_stays(
    registry_containerd: Containerd, registry: Served, name: str
) -> None:
    blobs = registry_containerd.root / "content" / "blobs" / "sha256"
    digest, manifest = registry.push_image(name, "v1")
    layer = json.loads(manifest)["layers"][0]["digest"]
    assert registry("DELETE", f"{name}/blobs/{layer}").status == 202
    other = registry.push_blob(name, secrets.token_bytes(10))
    assert registry("DELETE", f"{name}/blobs/{other}").status == 202
    wait_for(lambda: not (blobs / other[7:]).exists(), "the blob that nothing needs is gone")
    assert (blobs / layer[7:]).exists()  # the manifest needs it
    assert registry("DELETE", f"{name}/manifests/{digest}").status == 202
    wait_for(lambda: not (blobs / layer[7:]).exists() and not (blobs / digest[7:]).exists(), "both are gone")


def test_a_connection_that_ends_in_the_middle_leaves_a_resumable_upload(registry: Served, name: str) -> None:
    where = registry("POST", f"{name}/blobs/uploads/").headers["Location"]
    connection = registry.connection()
    connection.putrequest("PATCH", where)
    connection.putheader("Content-Length", "9000000")
    connection.endheaders()
    connection.send(b"x" * 4_000_000)
    connection.close()

    def received() -> int:
        """Bytes that are kept, once nobody writes to the upload any more; the cut request may only just begin."""
        answer = registry("PATCH", where, b"")  # no other request had the upload while this one did
        return int(answer.headers["Range"].split("-")[1]) + 1 if answer.status == 202 else 0

    have = wait_for(lambda: received() > 1 and received(), "what came before the cut is kept")
    assert 1 << 20 <= have <= 4_000_000
    done = registry("PUT", f"{where}?digest={digest_of(b'x' * have + b'y')}", b"y", Content_Range=f"{have}-{have}")
    assert done.status == 201


# ---- beside an engine


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine("--insecure-registry=127.0.0.0/8") as made:
        yield made


@pytest.fixture
def address(engine: Engine) -> Iterator[str]:
    with engine.inside():
        argv = [command("rorqual"), "-H", engine.host, "registry", "serve", "--listen", "127.0.0.1:0"]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split("//")[1].strip()
    finally:
        process.terminate()
        assert process.wait(20) == 0
        process.stdout.close()


def skopeo(engine: Engine, *arguments: str) -> Any:
    if not shutil.which("skopeo"):
        pytest.skip("skopeo is not installed")
    with engine.inside():
        done = subprocess.run(["skopeo", *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_docker_pulls_the_engines_image_pushes_and_pulls_again(engine: Engine, address: str) -> None:
    docker = engine.docker
    docker("pull", f"{address}/busybox")
    docker("tag", "busybox", f"{address}/mine/box:v1")
    pushed = docker("push", f"{address}/mine/box:v1").out
    digest = pushed.rsplit("digest: ", 1)[1].split()[0]
    docker("rmi", f"{address}/mine/box:v1", f"{address}/busybox")
    docker("pull", f"{address}/mine/box@{digest}")
    assert docker.out("run", "--rm", f"{address}/mine/box@{digest}", "echo", "works") == "works"
    docker("rmi", f"{address}/mine/box@{digest}")


def test_skopeo_copies_in_and_out_and_deletes(engine: Engine, address: str, tmp_path: Path) -> None:
    skopeo(
        engine, "copy", "--src-tls-verify=false", f"docker://{address}/library/busybox:latest", f"oci:{tmp_path}/o:x"
    )
    target = f"docker://{address}/copied/box:v2"
    skopeo(engine, "copy", "--dest-tls-verify=false", f"oci:{tmp_path}/o:x", target)
    told = json.loads(skopeo(engine, "inspect", "--tls-verify=false", target))
    assert told["RepoTags"] == ["v2"]
    original = json.loads(skopeo(engine, "inspect", "--tls-verify=false", f"docker://{address}/busybox"))
    assert told["Layers"] == original["Layers"]
    skopeo(engine, "delete", "--tls-verify=false", target)
    assert "copied/box" not in json.loads(_get(engine, address, "/v2/_catalog"))["repositories"]


def test_what_is_pushed_outlives_the_engines_image(engine: Engine, address: str) -> None:
    docker = engine.docker
    docker("run", "--name", "made", "busybox", "sh", "-c", "echo kept > /file")
    docker("commit", "made", f"{address}/kept/box")
    docker("push", f"{address}/kept/box")
    docker("rm", "made")
    snapshots = engine.data / "snapshots" / "overlayfs"
    before = set(os.listdir(snapshots))
    docker("rmi", f"{address}/kept/box")
    wait_for(lambda: set(os.listdir(snapshots)) < before, "the engine has collected the image's layer")
    docker("pull", f"{address}/kept/box")
    assert docker.out("run", "--rm", f"{address}/kept/box", "cat", "/file") == "kept"
    docker("rmi", f"{address}/kept/box")


def _get(engine: Engine, address: str, path: str) -> str:
    with engine.inside():
        done = subprocess.run(["curl", "-s", f"http://{address}{path}"], capture_output=True, text=True, check=True)
    return done.stdout
