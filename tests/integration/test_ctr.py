"""The stock `ctr` of Debian's containerd on our containerd's socket."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from support.engine import Engine
from support.processes import wait_for

pytestmark = [pytest.mark.root, pytest.mark.skipif(not shutil.which("ctr"), reason="ctr is not installed")]


class Ctr:
    def __init__(self, engine: Engine) -> None:
        self.argv = ["ctr", "--address", str(engine.exec / "containerd" / "containerd.sock")]
        self.engine = engine

    def __call__(self, *args: str, namespace: str = "moby", code: int | None = 0) -> str:
        done = subprocess.run(
            [*self.argv, "--namespace", namespace, *args], capture_output=True, text=True, timeout=60, check=False
        )
        assert code is None or done.returncode == code, (
            f"ctr {args}: {done.returncode} {done.stderr}{self.engine.log_tail()}"
        )
        return done.stdout


@pytest.fixture
def ctr(engine: Engine) -> Ctr:
    return Ctr(engine)


def test_version_and_plugins(ctr: Ctr) -> None:
    assert "Server" in ctr("version")
    assert "io.containerd.snapshotter.v1" in ctr("plugins", "ls")


def test_namespaces_lists_the_engines(ctr: Ctr) -> None:
    assert "moby" in ctr("namespaces", "ls", "-q").split()


def test_images_content_and_snapshots_show_the_engines_image(ctr: Ctr, engine: Engine) -> None:
    assert "docker.io/library/busybox:latest" in ctr("images", "ls", "-q").split()
    digests = ctr("content", "ls", "-q").split()
    assert engine.api("GET", "/images/busybox/json").json["Id"] in digests
    assert len(ctr("snapshots", "ls").splitlines()) >= 2


def test_content_get_gives_the_blob(ctr: Ctr, engine: Engine) -> None:
    config = json.loads(ctr("content", "get", engine.api("GET", "/images/busybox/json").json["Id"]))
    assert config["os"] == "linux"


def test_containers_and_tasks_show_the_engines_container(ctr: Ctr, engine: Engine) -> None:
    container = engine.rorqual.out("run", "-d", "busybox", "sleep", "60")
    assert container in ctr("containers", "ls", "-q").split()
    (line,) = (line for line in ctr("tasks", "ls").splitlines() if line.startswith(container))
    assert line.split() == [container, str(engine.inspect(container)["State"]["Pid"]), "RUNNING"]
    assert str(engine.inspect(container)["State"]["Pid"]) in ctr("tasks", "ps", container)


def test_tasks_exec_runs_in_the_engines_container(ctr: Ctr, engine: Engine) -> None:
    container = engine.rorqual.out("run", "-d", "--hostname", "inside", "busybox", "sleep", "60")
    assert ctr("tasks", "exec", "--exec-id", "x1", container, "hostname").strip() == "inside"
    ctr("tasks", "exec", "--exec-id", "x2", container, "sh", "-c", "exit 9", code=9)


def test_events_are_seen(ctr: Ctr, engine: Engine, tmp_path: Path) -> None:
    output = tmp_path / "output"
    topics = ("/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete", "/containers/create")
    with output.open("w") as file, subprocess.Popen([*ctr.argv, "events"], stdout=file) as watcher:
        try:

            def told() -> bool:
                # Again and again: the watcher does not say when it has come.
                engine.rorqual("run", "--rm", "busybox", "true")
                return all(topic in output.read_text() for topic in topics)

            wait_for(told, output.read_text, 30)
        finally:
            watcher.terminate()
            watcher.wait(10)


def test_run_of_a_pulled_image(ctr: Ctr, engine: Engine) -> None:
    out = ctr(
        "run", "--rm", "--snapshotter", "overlayfs", "docker.io/library/busybox:latest", "by-ctr", "echo", "from ctr"
    )
    assert out.strip() == "from ctr"
    assert "by-ctr" not in ctr("containers", "ls", "-q")


def test_run_detached_kill_and_delete(ctr: Ctr, engine: Engine) -> None:
    ctr("run", "-d", "docker.io/library/busybox:latest", "long", "sleep", "100")
    try:
        assert "RUNNING" in ctr("tasks", "ls")
        ctr("tasks", "pause", "long")
        assert "PAUSED" in ctr("tasks", "ls")
        ctr("tasks", "resume", "long")
        ctr("tasks", "kill", "--signal", "SIGKILL", "long")
        wait_for(lambda: "STOPPED" in ctr("tasks", "ls"), "the task stopped")
    finally:
        ctr("tasks", "delete", "--force", "long", code=None)
        ctr("containers", "delete", "long", code=None)


def test_images_import_brings_an_archive_in(ctr: Ctr, engine: Engine, tmp_path: object) -> None:
    archive = f"{tmp_path}/busybox.tar"
    ctr("images", "export", archive, "docker.io/library/busybox:latest")
    ctr("images", "import", archive, namespace="other")
    assert "docker.io/library/busybox:latest" in ctr("images", "ls", "-q", namespace="other").split()
    out = ctr("run", "--rm", "docker.io/library/busybox:latest", "imported", "echo", "hello", namespace="other")
    assert out.strip() == "hello"
    ctr("images", "rm", "docker.io/library/busybox:latest", namespace="other")
    ctr("namespaces", "rm", "other", code=None)


def test_leases_are_listed_made_and_removed(ctr: Ctr) -> None:
    ctr("leases", "create", "--id", "mine")
    assert "mine" in ctr("leases", "ls", "-q").split()
    ctr("leases", "rm", "mine")
    assert "mine" not in ctr("leases", "ls", "-q").split()


IMAGE = "docker.io/library/busybox:latest"


def test_run_on_every_snapshotter_and_with_another_runtime(ctr: Ctr) -> None:
    runs = [("--snapshotter", "native")]
    if shutil.which("fuse-overlayfs"):
        runs.append(("--snapshotter", "fuse-overlayfs"))
    if shutil.which("runc"):
        runs.append(("--runc-binary", "runc"))
    for number, flags in enumerate(runs):
        assert ctr("run", "--rm", *flags, IMAGE, f"by-{number}", "echo", "works").strip() == "works"


def test_plugins_say_why_a_snapshotter_is_not_there(ctr: Ctr) -> None:
    assert "the kernel has no aufs" in ctr("plugins", "ls", "-d", "id==aufs")


def test_images_mount_writable_and_unmount(ctr: Ctr, tmp_path: Path) -> None:
    ctr("images", "mount", "--rw", IMAGE, str(tmp_path))
    try:
        assert (tmp_path / "bin" / "busybox").exists()
        (tmp_path / "new").write_text("x")
    finally:
        ctr("images", "unmount", "--rm", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_snapshots_prepare_diff_commit_and_remove(ctr: Ctr, engine: Engine, tmp_path: Path) -> None:
    parent = next(line.split()[0] for line in ctr("snapshots", "ls").splitlines() if "Committed" in line)
    ctr("snapshots", "prepare", "changed", parent)
    mount = ctr("snapshots", "mounts", str(tmp_path), "changed").split()
    subprocess.run(mount, check=True)
    try:
        (tmp_path / "hello").write_text("x")
        (tmp_path / "etc" / "shadow").unlink()
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    argv = [*ctr.argv, "--namespace", "moby", "snapshots", "diff", "changed"]
    layer = subprocess.run(argv, capture_output=True, check=True).stdout
    names = subprocess.run(["tar", "-tz"], input=layer, capture_output=True, check=True).stdout.decode().split()
    assert set(names) == {"hello", "etc/", "etc/.wh.shadow"}
    ctr("snapshots", "commit", "kept", "changed")
    ctr("snapshots", "view", "seen", "kept")
    assert "kept" in ctr("snapshots", "tree")
    ctr("snapshots", "rm", "kept", code=1)
    ctr("snapshots", "rm", "seen")
    ctr("snapshots", "rm", "kept")


def test_content_ingest_label_and_remove(ctr: Ctr) -> None:
    data, digest = b"hello\n", "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    argv = [*ctr.argv, "--namespace", "moby", "content", "ingest", "--expected-digest", digest, "a-ref"]

    def ingested_and_kept() -> bool:
        # Nothing holds it until it has its label: a collection that an earlier test brought about may come between.
        subprocess.run(argv, input=data, check=True, timeout=30)
        ctr("content", "label", digest, "x=y", "containerd.io/gc.root=now", code=None)
        return digest in ctr("content", "ls", "labels.x==y")

    wait_for(ingested_and_kept, "ingested, labelled and listed by its label")
    assert ctr("content", "get", digest) == "hello\n"
    ctr("content", "rm", digest)
    assert digest not in ctr("content", "ls")
