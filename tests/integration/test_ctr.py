"""The stock `ctr` of Debian's containerd on our containerd's socket."""

import json
import shutil
import subprocess
import time

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


def test_events_are_seen(ctr: Ctr, engine: Engine) -> None:
    with subprocess.Popen([*ctr.argv, "events"], stdout=subprocess.PIPE, text=True) as watcher:
        try:
            time.sleep(0.5)
            engine.rorqual("run", "--rm", "busybox", "true")
            time.sleep(1)
        finally:
            watcher.terminate()
        output = watcher.communicate(timeout=10)[0]
    for topic in ("/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete", "/containers/create"):
        assert topic in output, output


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
