"""An upgrade: the daemons of one release are stopped, its files are gone, those of another start; containers go on.

The old release is this tree under another version; its files are deleted before the new one starts, as a package
manager does: what a running shim needs it must have in memory.
"""

import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine import REPOSITORY, Cli, Engine
from support.processes import alive, wait_for

pytestmark = pytest.mark.root

OLD = "0.0.9"


class Released(Engine):
    """An engine that runs the code below `code`."""

    def __init__(self, code: Path) -> None:
        self.code = code
        super().__init__()

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "PYTHONPATH": str(self.code)}


def release(root: Path, version: str) -> Path:
    """A copy of the code, as that version."""
    code = root / version
    shutil.copytree(REPOSITORY / "src", code)
    file = code / "rorqual" / "version.py"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(f'__version__ = "{version}"' if li.startswith("__version__") else li for li in lines))
    return code


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Released]:
    with Released(release(tmp_path, OLD)) as engine:
        yield engine


def upgrade(engine: Released, tmp_path: Path) -> None:
    """As a package manager does it: the service is stopped, the files are exchanged, the service is started."""
    assert engine.daemon is not None
    engine.daemon.send_signal(signal.SIGTERM)
    assert engine.daemon.wait(30) == 0
    shutil.rmtree(engine.code)
    engine.code = release(tmp_path, "0.1.0")
    engine.start()


def versions(engine: Engine) -> dict[str, str]:
    answer = engine.api("GET", "/version").json
    return {component["Name"]: component["Version"] for component in answer["Components"]}


def test_containers_go_on_and_can_do_everything(engine: Released, cli: Cli, tmp_path: Path) -> None:
    assert versions(engine)["Engine"] == OLD
    script = "trap 'exit 9' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"
    container = cli.out(
        "run", "-d", "--name", "old", "-p", "18083:80", "--health-cmd", "true", "--health-interval", "1s",
        "--log-opt", "max-size=4k", "--log-opt", "max-file=500", "--log-opt", "compress=true",
        "busybox", "sh", "-c", script,
    )  # fmt: skip
    cli("run", "-d", "--name", "limited", "-m", "64m", "--restart", "always", "busybox", "sleep", "1000")
    pid = engine.inspect(container)["State"]["Pid"]
    shims = engine.pids("shim")
    with cli.started("exec", "-i", "old", "sh", "-c", "echo up; read x; echo got $x; exit 4") as attached:
        assert attached.stdin is not None and attached.stdout is not None
        assert attached.stdout.readline() == b"up\n"
        upgrade(engine, tmp_path)
        attached.stdin.write(b"word\n")
        attached.stdin.flush()
        assert attached.stdout.readline() == b"got word\n"
        assert attached.wait(20) == 4

    assert versions(engine)["Engine"] == "0.1.0"
    assert set(shims) <= set(engine.pids("shim"))
    assert engine.inspect(container)["State"]["Pid"] == pid
    # Everything that is asked of a shim, none of which it may have to read from its release's files.
    assert cli.out("exec", "old", "echo", "hi") == "hi"
    assert cli.out("exec", "-u", "65534", "-w", "/bin", "-e", "A=b", "old", "sh", "-c", "id -u; pwd; echo $A") == (
        "65534\n/bin\nb"
    )
    capabilities = ("old", "grep", "CapEff", "/proc/self/status")
    assert cli.out("exec", "--privileged", *capabilities) != cli.out("exec", *capabilities)
    assert "sh" in cli.out("top", "old")
    assert "MiB" in cli.out("stats", "--no-stream", "limited")
    cli("pause", "limited")
    cli("unpause", "limited")
    cli("update", "-m", "128m", "--memory-swap", "-1", "limited")
    assert engine.inspect("limited")["HostConfig"]["Memory"] == 128 << 20
    cli("cp", "old:/bin/busybox", str(tmp_path / "busybox"))
    cli("network", "create", "later")
    cli("network", "connect", "later", "old")
    assert "eth1" in cli.out("exec", "old", "ip", "addr")
    wait_for(lambda: engine.inspect("old")["State"]["Health"]["Status"] == "healthy", "its health is known")
    checked = len(engine.inspect("old")["State"]["Health"]["Log"])
    wait_for(lambda: len(engine.inspect("old")["State"]["Health"]["Log"]) > checked or checked == 5, "checks go on")
    missing = cli("exec", "old", "nosuch", code=126)
    assert "executable file not found" in missing.err + missing.out
    with cli.started("logs", "-f", "--tail", "1", "old") as following:
        assert following.stdout is not None
        first = int(following.stdout.readline())
        assert [int(following.stdout.readline()) for _ in range(3)] == [first + 1, first + 2, first + 3]
    cli("stop", "old")
    assert engine.inspect("old")["State"]["ExitCode"] == 9
    numbers = [int(n) for n in cli.out("logs", "old").split()]
    assert numbers == list(range(1, len(numbers) + 1))
    # And what is new is the new release's.
    cli("start", "old")
    assert not set(engine.pids("shim", container)) & set(shims)
    os.kill(engine.inspect("limited")["State"]["Pid"], signal.SIGKILL)
    wait_for(lambda: engine.inspect("limited")["RestartCount"] == 1, "its restart policy holds")


def test_the_old_containerd_is_replaced(engine: Released, cli: Cli, tmp_path: Path) -> None:
    """Else the new daemon would talk to code that is no longer on the disk."""
    cli("run", "-d", "--name", "old", "busybox", "sleep", "1000")
    before = engine.pids("containerd")
    upgrade(engine, tmp_path)
    assert not any(map(alive, before))
    assert versions(engine) | {"Engine": "0.1.0"} == versions(engine)
    assert {v for k, v in versions(engine).items() if k.startswith("rorqual")} == {"0.1.0"}
    assert cli.out("exec", "old", "echo", "hi") == "hi"
    same = engine.pids("containerd")
    engine.restart()
    assert engine.pids("containerd") == same  # one of its own release is kept


def test_a_database_of_a_newer_release_is_refused(engine: Released, cli: Cli, tmp_path: Path) -> None:
    assert engine.daemon is not None
    engine.daemon.send_signal(signal.SIGTERM)
    engine.daemon.wait(30)
    with sqlite3.connect(engine.data / "daemon.db") as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        database.execute(f"PRAGMA user_version={version + 1}")
    with pytest.raises(AssertionError, match=rf"schema version {version + 1} is of a newer release"):
        engine.start()
    with sqlite3.connect(engine.data / "daemon.db") as database:
        database.execute(f"PRAGMA user_version={version}")
    engine.start()
