"""A data root without room, and one that became read-only: clear errors, nothing corrupted, all works again after."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.busybox import rootfs_tar
from support.engine import Engine
from support.processes import wait_for

pytestmark = pytest.mark.root

NO_SPACE = "no space left on device"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m,mode=0700", "rorqual-test", directory], check=True)
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


@pytest.fixture
def engine(disk: Path) -> Iterator[Engine]:
    with Engine(f"--data-root={disk}/data") as made:
        yield made


def fill(disk: Path) -> Path:
    """Take all the room there is. Again: what has become free since."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            pass
    return filler


def test_every_operation_fails_clearly_on_a_full_disk_and_works_again(engine: Engine, disk: Path) -> None:
    engine.rorqual("run", "-d", "--name", "old", "busybox", "sleep", "1000")
    engine.rorqual("run", "--name", "kept", "busybox", "sh", "-c", "echo kept >/file")
    engine.rorqual("run", "-d", "--name", "removed", "busybox", "sleep", "1000")
    filler = fill(disk)

    engine.rorqual("rm", "-f", "removed")  # it is how one gets room again
    fill(disk)
    for argv in (
        ("run", "--rm", "busybox", "true"),
        ("create", "--name", "new", "busybox", "true"),
        ("tag", "busybox", "other"),
        ("volume", "create", "vol"),
        ("commit", "kept", "image"),
        ("rename", "kept", "renamed"),
    ):
        done = engine.rorqual(*argv, code=None)
        if done.code:  # what is small enough for the ballast may succeed
            assert "full" in done.err.lower() or NO_SPACE in done.err.lower(), done
    answer = engine.api(
        "POST", "/images/create?fromSrc=-&repo=big", rootfs_tar(), {"Content-Type": "application/x-tar"}
    )
    assert answer.status != 200 or b'"error"' in answer.body
    written = engine.rorqual("exec", "old", "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=64", code=None)
    assert written.code and NO_SPACE in (written.out + written.err).lower()
    assert engine.rorqual.out("exec", "old", "echo", "runs") == "runs"
    assert len(engine.rorqual.out("ps", "-aq").split()) in (2, 3)

    filler.unlink()
    engine.rorqual("rm", "-f", "old")
    assert engine.rorqual.out("run", "--rm", "busybox", "echo", "room") == "room"
    names = engine.rorqual.out("ps", "-a", "--format", "{{.Names}}").split()
    engine.rorqual("commit", "renamed" if "renamed" in names else "kept", "image")
    assert engine.rorqual.out("run", "--rm", "image", "cat", "/file") == "kept"
    engine.rorqual("rmi", "image")


def test_a_start_of_the_engine_on_a_full_disk_finds_its_containers(engine: Engine, disk: Path) -> None:
    engine.rorqual("run", "-d", "--name", "old", "busybox", "sleep", "1000")
    filler = fill(disk)
    engine.kill("rorquald")
    engine.kill("containerd")
    try:
        engine.start()
        assert engine.running("old")
        engine.rorqual("rm", "-f", "old")
    except AssertionError as e:
        assert "full" in str(e).lower() or NO_SPACE in str(e).lower()
    filler.unlink()
    if not engine.pids("rorquald"):
        engine.start()
    assert engine.rorqual.out("run", "--rm", "busybox", "echo", "room") == "room"


def test_a_read_only_data_root_is_told_and_survived(engine: Engine, disk: Path) -> None:
    engine.rorqual("run", "-d", "--name", "old", "busybox", "sleep", "1000")
    # As a file system does that met an error; files that are open for writing do not keep a bind mount from it.
    subprocess.run(["mount", "--bind", disk, disk], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", disk], check=True)
        engine.kill("rorquald")
        failed = subprocess.run(
            engine.daemon_argv, capture_output=True, text=True, timeout=30, check=False, env={**os.environ}
        )
        assert failed.returncode != 0
        assert "Traceback" not in failed.stderr and "read-only" in failed.stderr.lower(), failed.stderr
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    engine.start()
    assert engine.running("old")
    wait_for(lambda: engine.rorqual.out("run", "--rm", "busybox", "echo", "writes") == "writes", "it works again")
