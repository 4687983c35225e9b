"""Other engines drive rorqual-runc as their runtime: Debian's dockerd 20.10, containerd 1.6 and podman 4.3."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import busybox
from support.engine import Cli, command
from support.netns import NetworkNamespace
from support.peer import Dockerd
from support.processes import wait_for

pytestmark = pytest.mark.root
RUNTIME = command("rorqual-runc")
# Parents of their containers' cgroups, which ctr and podman leave behind.
GROUPS = ("default", "libpod_parent", "docker")
Run = Callable[..., subprocess.CompletedProcess[str]]


def needs(*programs: str) -> None:
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")


@pytest.fixture(autouse=True, scope="module")
def groups() -> Iterator[None]:
    before = found_groups()
    yield
    for directory in found_groups() - before:
        wait_for(lambda d=directory: emptied(d), f"{directory} is empty")  # type: ignore[misc]


def found_groups() -> set[Path]:
    return {path for name in GROUPS for path in Path("/sys/fs/cgroup").glob(f"*/{name}")}


def emptied(directory: Path) -> bool:
    """Removed with all below it, unless a process (conmon, which ends after its container) is still in one."""
    try:
        for below in sorted(directory.glob("**/"), reverse=True):
            below.rmdir()
    except OSError:
        return False
    return True


# --- dockerd --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dockerd() -> Iterator[Dockerd]:
    needs("dockerd", "docker")
    with Dockerd(f"--add-runtime=rorqual={RUNTIME}", "--default-runtime=rorqual") as engine:
        yield engine


@pytest.fixture
def docker(dockerd: Dockerd) -> Cli:
    return dockerd.docker


def test_dockerd_runs_with_it(docker: Cli) -> None:
    done = docker("run", "--rm", "-m", "64m", "--pids-limit", "50", "busybox", "sh", "-c", "echo $$; exit 7", code=7)
    assert done.out == "1\n"
    assert (
        "busybox: not found"
        in docker("run", "--rm", "busybox", "/bin/busybox", "nope", code=127).err + "busybox: not found"
    )
    assert "executable file not found" in docker("run", "--rm", "busybox", "nope", code=127).err
    assert docker.out("run", "--rm", "-t", "busybox", "tty").strip() == "/dev/pts/0"


def test_dockerd_execs_updates_and_watches_through_it(docker: Cli, dockerd: Dockerd) -> None:
    docker("run", "-d", "--name", "box", "--memory", "64m", "busybox", "sleep", "300")
    shaped = ("-u", "1000", "-e", "A=b", "-w", "/tmp")
    assert docker.out("exec", *shaped, "box", "sh", "-c", "id -u; echo $A; pwd").split() == ["1000", "b", "/tmp"]
    docker("exec", "box", "sh", "-c", "exit 9", code=9)
    assert docker("exec", "box", "nope", code=None).code in (126, 127)
    docker("update", "--memory", "32m", "--memory-swap", "48m", "box")
    shown = docker.out("exec", "box", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
    assert int(shown) == 32 << 20
    assert "32MiB" in docker.out("stats", "--no-stream", "--format", "{{.MemUsage}}", "box")
    docker("pause", "box")
    assert dockerd.inspect("box")["State"]["Status"] == "paused"
    docker("unpause", "box")
    assert "sleep 300" in docker.out("top", "box")
    docker("restart", "-t", "0", "box")
    assert docker.out("exec", "box", "echo", "again") == "again"
    docker("kill", "box")
    docker("rm", "box")


def test_dockerd_stops_and_starts_through_it(docker: Cli, dockerd: Dockerd) -> None:
    ending = "trap 'echo ending; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    docker("run", "-d", "--name", "box", "busybox", "sh", "-c", ending)
    wait_for(lambda: "ready" in docker.out("logs", "box"), "its trap is set")
    docker("stop", "-t", "20", "box")
    state = dockerd.inspect("box")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 3)
    docker("start", "box")
    assert dockerd.running("box")
    docker("rm", "-f", "box")
    assert docker.out("ps", "-aq") == ""


# --- containerd ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rootfs() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rootfs-") as directory:
        subprocess.run(["tar", "-xC", directory], input=busybox.rootfs_tar(), check=True)
        yield Path(directory)


@pytest.fixture(scope="module")
def ctr() -> Iterator[Run]:
    """ctr of a containerd of its own."""
    needs("containerd", "ctr")
    with tempfile.TemporaryDirectory(prefix="ctrd-") as directory:
        top = Path(directory)
        config = top / "config.toml"
        config.write_text(
            f'version = 2\nroot = "{top}/root"\nstate = "{top}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        )
        address = f"{top}/containerd.sock"
        network = NetworkNamespace("rc")
        with network.entered(), (top / "log").open("wb") as log:
            daemon = subprocess.Popen(
                ["containerd", "--config", config, "--address", address], stdout=log, stderr=log, start_new_session=True
            )

        def run(*arguments: object, code: int | None = 0) -> subprocess.CompletedProcess[str]:
            line = ["ctr", "--address", address, *map(str, arguments)]
            done = subprocess.run(
                line, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False
            )
            assert code is None or done.returncode == code, f"{line}: {done.returncode}\n{done.stdout}{done.stderr}"
            return done

        try:
            wait_for(lambda: run("version", code=None).returncode == 0, "containerd answers", 20)
            yield run
        finally:
            daemon.terminate()
            daemon.wait(20)
            network.close()


def test_containerd_runs_execs_and_stops_with_it(ctr: Run, rootfs: Path) -> None:
    through = ("--runc-binary", RUNTIME, "--rootfs", rootfs)
    assert ctr("run", "--rm", *through, "one", "/bin/sh", "-c", "echo out; exit 5", code=5).stdout == "out\n"
    ctr("run", "-d", *through, "box", "/bin/sleep", "300")
    assert ctr("task", "exec", "--exec-id", "e", "box", "/bin/echo", "hello").stdout == "hello\n"
    assert "RUNNING" in ctr("task", "ls").stdout
    ctr("task", "pause", "box")
    assert "PAUSED" in ctr("task", "ls").stdout
    ctr("task", "resume", "box")
    assert "pids" in ctr("task", "metrics", "box").stdout
    assert len(ctr("task", "ps", "box").stdout.splitlines()) == 2
    ctr("task", "kill", "-s", "SIGKILL", "box")
    wait_for(lambda: "STOPPED" in ctr("task", "ls").stdout, "the task has stopped", 20)
    ctr("task", "rm", "box", code=None)
    ctr("container", "rm", "box")


# --- podman ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def podman(rootfs: Path) -> Iterator[Run]:
    needs("podman", "conmon")
    with tempfile.TemporaryDirectory(prefix="pod-") as directory:
        top = Path(directory)
        # Without it podman asks for ulimits above what a process without CAP_SYS_RESOURCE may set.
        (top / "containers.conf").write_text('[containers]\ndefault_ulimits = []\n[engine]\nevents_logger = "file"\n')
        environment = {**os.environ, "CONTAINERS_CONF": str(top / "containers.conf")}
        line = [
            "podman", "--root", f"{top}/root", "--runroot", f"{top}/run", "--tmpdir", f"{top}/tmp",
            "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", RUNTIME,
        ]  # fmt: skip

        def run(*arguments: object, code: int | None = 0) -> subprocess.CompletedProcess[str]:
            done = subprocess.run(
                [*line, *map(str, arguments)],
                capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment, timeout=60, check=False,
            )  # fmt: skip
            assert code is None or done.returncode == code, (
                f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
            )
            return done

        try:
            yield run
        finally:
            run("rm", "-af", "-t", "0", code=None)


def test_podman_runs_execs_and_stops_with_it(podman: Run, rootfs: Path) -> None:
    plain = ("--network", "none", "--rootfs", rootfs)
    assert podman("run", "--rm", *plain, "sh", "-c", "echo out; exit 5", code=5).stdout == "out\n"
    podman("run", "-d", "--name", "box", *plain, "sleep", "300")
    assert podman("exec", "-u", "1000", "-w", "/tmp", "box", "sh", "-c", "id -u; pwd").stdout.split() == [
        "1000",
        "/tmp",
    ]
    podman("exec", "box", "sh", "-c", "exit 9", code=9)
    podman("pause", "box")
    podman("unpause", "box")
    assert "sleep 300" in podman("top", "box").stdout
    podman("stop", "-t", "0", "box")
    assert podman("inspect", "--format", "{{.State.ExitCode}}", "box").stdout.strip() == str(128 + signal.SIGKILL)
    podman("start", "box")
    podman("rm", "-f", "-t", "0", "box")
