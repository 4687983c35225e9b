"""An ordinary user runs containers: one ID by itself, ranges through newuidmap, exec, terminal, and clear refusals."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.engine import command

from .conftest import make_rootfs

pytestmark = pytest.mark.root
RUNTIME = command("rorqual-runc")
USER, GROUP = 5, 60  # games: newuidmap wants a user that /etc/passwd knows
Runc = Callable[..., subprocess.CompletedProcess[str]]
AS_USER = ["setpriv", f"--reuid={USER}", f"--regid={GROUP}", "--clear-groups"]


@pytest.fixture
def home() -> Iterator[Path]:
    """A bundle that belongs to the user, outside of pytest's directory, which is root's alone."""
    if subprocess.run([*AS_USER, RUNTIME, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("the runtime's own files are not readable by an ordinary user")
    with tempfile.TemporaryDirectory(prefix="rootless-") as directory:
        path = Path(directory)
        make_rootfs(path / "rootfs")
        for applet in ("grep", "chown"):
            (path / "rootfs/bin" / applet).symlink_to("busybox")
        for top, names, files in os.walk(path):
            for name in (".", *names, *files):
                os.chown(f"{top}/{name}", USER, GROUP, follow_symlinks=False)
        yield path


@pytest.fixture
def runc(home: Path) -> Iterator[Runc]:
    def run(*arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        line = [*before, *AS_USER, RUNTIME, "--root", f"{home}/state", *arguments]
        with (home / "output").open("w+") as output:  # not a pipe, which a container would hold open
            done = subprocess.run(line, cwd=home, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=30)
            output.seek(0)
            return subprocess.CompletedProcess(line, done.returncode, output.read())

    yield run
    run("delete", "--force", "box")


def write(home: Path, runc: Runc, *args: str, **linux: Any) -> None:
    (home / "config.json").unlink(missing_ok=True)
    assert runc("spec", "--rootless").returncode == 0
    document = json.loads((home / "config.json").read_text())
    document["process"].update(terminal=False, args=list(args))
    document["root"]["readonly"] = False
    document["linux"].update(linux)
    (home / "config.json").write_text(json.dumps(document))


def test_run_maps_the_user_to_root(home: Path, runc: Runc) -> None:
    write(home, runc, "sh", "-c", "id -u; cat /proc/self/uid_map; touch /tmp/made; exit 7")
    done = runc("run", "box")
    assert done.returncode == 7, done.stdout
    assert done.stdout.split() == ["0", "0", str(USER), "1"]
    assert (home / "rootfs/tmp/made").stat().st_uid == USER


def test_the_whole_life(home: Path, runc: Runc) -> None:
    write(home, runc, "sleep", "100")
    assert runc("run", "-d", "box").returncode == 0
    assert json.loads(runc("state", "box").stdout)["status"] == "running"
    done = runc("exec", "box", "sh", "-c", "id -u; grep CapEff /proc/self/status; readlink /proc/1/exe; exit 3")
    assert done.returncode == 3, done.stdout
    uid, _, effective, init = done.stdout.split()
    assert (uid, init) == ("0", "/bin/busybox")
    assert int(effective, 16) != 0
    assert runc("exec", "-t", "box", "tty").stdout.strip() == "/dev/pts/0"
    assert len(json.loads(runc("ps", "-f", "json", "box").stdout)) == 1
    for refused in (("pause", "box"), ("update", "--memory", "10m", "box"), ("events", "--stats", "box")):
        done = runc(*refused)
        assert done.returncode == 1
        assert "without control groups" in done.stdout
    assert runc("kill", "box", "KILL").returncode == 0
    assert runc("delete", "--force", "box").returncode == 0
    assert runc("list", "-q").stdout == ""


def test_limits_and_groups_that_nobody_granted_are_refused(home: Path, runc: Runc) -> None:
    write(home, runc, "true", resources={"pids": {"limit": 10}})
    done = runc("run", "box")
    assert done.returncode == 1
    assert "cannot limit a container without control groups" in done.stdout
    write(home, runc, "true", cgroupsPath="/somewhere")
    done = runc("run", "box")
    assert done.returncode == 1
    assert "no permission is granted for cgroups" in done.stdout
    assert runc("--rootless", "false", "run", "box").returncode == 1
    assert [name for name in os.listdir(home / "state") if name[0] != "."] == []


def test_ranges_of_ids_go_through_newuidmap(home: Path, runc: Runc) -> None:
    if not shutil.which("newuidmap"):
        pytest.skip("newuidmap (package uidmap) is not installed")
    (home / "ids").write_text("games:200000:1000\n")
    private = (
        "unshare", "--mount", "sh", "-c",
        'mount --bind "$1" /etc/subuid && mount --bind "$1" /etc/subgid && shift && exec "$@"', "sh", f"{home}/ids",
    )  # fmt: skip
    uids = [{"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": 200000, "size": 1000}]
    gids = [{**uids[0], "hostID": GROUP}, uids[1]]
    script = "cat /proc/self/uid_map; echo x > /tmp/f; chown 33 /tmp/f"
    write(home, runc, "sh", "-c", script, uidMappings=uids, gidMappings=gids)
    config = json.loads((home / "config.json").read_text())
    caps = config["process"]["capabilities"]
    for kind in ("bounding", "effective", "permitted"):
        caps[kind].append("CAP_CHOWN")
    (home / "config.json").write_text(json.dumps(config))
    done = runc("run", "box", before=private)
    assert done.returncode == 0, done.stdout
    assert done.stdout.split() == ["0", str(USER), "1", "1", "200000", "1000"]
    assert (home / "rootfs/tmp/f").stat().st_uid == 200032
    refused = runc("run", "box")  # without the line in /etc/subuid
    assert refused.returncode == 1
    assert "/etc/subuid" in refused.stdout


def test_rootless_podman_runs_and_execs_with_it(home: Path) -> None:
    """Podman calls the runtime as root of its own user namespace, which is not the host's root."""
    missing = [program for program in ("podman", "conmon", "newuidmap") if not shutil.which(program)]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    (home / "ids").write_text("games:300000:65536\n")
    (home / "containers.conf").write_text('[containers]\ndefault_ulimits = []\n[engine]\nevents_logger = "file"\n')
    (home / "run").mkdir()
    os.chown(home / "run", USER, GROUP)
    private = 'mount --bind "$0" /etc/subuid && mount --bind "$0" /etc/subgid && exec "$@"'
    line = [
        "unshare", "--mount", "sh", "-c", private, f"{home}/ids", *AS_USER,
        "podman", "--root", f"{home}/root", "--runroot", f"{home}/runroot", "--tmpdir", f"{home}/tmp",
        "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", RUNTIME,
    ]  # fmt: skip
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "USER": "games",
        "XDG_RUNTIME_DIR": f"{home}/run",
        "CONTAINERS_CONF": f"{home}/containers.conf",
    }

    def podman(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*line, *arguments],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd=home,
            timeout=60,
            check=False,
        )

    plain = ("--network", "none", "--rootfs", f"{home}/rootfs")
    try:
        done = podman("run", "--rm", *plain, "sh", "-c", "cat /proc/self/uid_map; exit 5")
        assert done.returncode == 5, done.stderr
        assert done.stdout.split() == ["0", str(USER), "1", "1", "300000", "65536"]
        assert podman("run", "-d", "--name", "box", *plain, "sleep", "300").returncode == 0
        done = podman("exec", "-u", "33", "box", "id", "-u")
        assert (done.returncode, done.stdout) == (0, "33\n"), done.stderr
    finally:
        podman("rm", "-af", "-t", "0")
        # What podman leaves behind to keep its namespaces.
        for pause in home.glob("**/pause.pid"):
            os.kill(int(pause.read_text()), signal.SIGKILL)
