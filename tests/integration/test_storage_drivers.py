"""Storage drivers: each runs containers of an image of several layers, keeps them over restarts, and leaves nothing."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine import Engine
from support.processes import wait_for

pytestmark = pytest.mark.root

DRIVERS = ("vfs", "overlay2", "btrfs", "fuse-overlayfs")


@pytest.fixture
def btrfs_root(tmp_path: Path) -> Iterator[Path]:
    image, point = tmp_path / "image", tmp_path / "mnt"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(512 << 20)
    if not shutil.which("mkfs.btrfs"):
        pytest.skip("mkfs.btrfs is not installed")
    subprocess.run(["mkfs.btrfs", "-q", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, point], check=False, capture_output=True).returncode:
        pytest.skip("the kernel has no btrfs or no loop devices")
    yield point
    subprocess.run(["umount", point], check=True)


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    if request.param == "fuse-overlayfs" and not shutil.which("fuse-overlayfs"):
        pytest.skip("fuse-overlayfs is not installed")
    return str(request.param)


@pytest.fixture
def engine(driver: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    arguments = [f"--storage-driver={driver}"]
    if driver == "btrfs":
        arguments.append(f"--data-root={request.getfixturevalue('btrfs_root')}/data")
    with Engine(*arguments) as made:
        if driver == "btrfs":
            made.data = request.getfixturevalue("btrfs_root") / "data"
        yield made


def snapshots(engine: Engine) -> list[Path]:
    return [p for p in (engine.data / "snapshots").glob("*/*") if p.name.isdigit()]


def test_containers_of_layered_images_run_and_are_kept(engine: Engine, driver: str) -> None:
    docker = engine.docker
    assert docker.out("info", "--format", "{{.Driver}}") == driver
    docker("run", "--name", "one", "busybox", "sh", "-c", "echo new > /etc/new; rm /etc/shadow; echo x > /etc/group")
    docker("commit", "one", "layered")
    assert docker.out("run", "--rm", "layered", "sh", "-c", "cat /etc/new /etc/group; ls /etc/shadow; true") == "new\nx"
    docker("start", "-a", "one")
    engine.restart()
    container = docker.out("run", "-d", "layered", "sleep", "100")
    docker("exec", container, "sh", "-c", "echo kept > /kept")
    docker("restart", "-t", "0", container)
    assert docker.out("exec", container, "cat", "/kept", "/etc/new") == "kept\nnew"
    docker("rm", "-f", container, "one")
    docker("rmi", "-f", "layered", "busybox")
    wait_for(lambda: not snapshots(engine), "the snapshots are gone")


def test_a_size_quota_holds_or_is_refused(engine: Engine, driver: str) -> None:
    argv = (
        "run",
        "--rm",
        "--storage-opt",
        "size=20m",
        "busybox",
        "dd",
        "if=/dev/urandom",
        "of=/big",
        "bs=1M",
        "count=40",
    )
    if driver != "btrfs":
        assert "--storage-opt is supported only for" in engine.docker(*argv, code=125).err
        return
    result = engine.docker(*argv, "conv=fsync", code=1)
    assert "quota exceeded" in result.err.lower()


@pytest.mark.parametrize("name", ["zfs", "aufs", "devicemapper", "btrfs", "nonsense"])
def test_a_driver_that_cannot_be_had_says_why(name: str, tmp_path: Path) -> None:
    if name == "zfs" and os.path.exists("/dev/zfs"):
        pytest.skip("this kernel has ZFS")
    with pytest.raises(AssertionError) as failure:
        Engine(f"--storage-driver={name}", image=False)
    text = str(failure.value)
    wanted = {
        "zfs": "zfs: the kernel has no ZFS",
        "aufs": "aufs: ",
        "devicemapper": "devmapper: ",
        "btrfs": "is not on a btrfs file system",
        "nonsense": "driver not supported: nonsense",
    }
    assert wanted[name] in text


def test_without_overlayfs_the_next_best_is_used(tmp_path: Path) -> None:
    """As inside a container, whose root is an overlay."""
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, tmp_path / "merged"], check=True)
    try:
        with Engine(f"--data-root={tmp_path}/merged/data") as engine:
            engine.data = tmp_path / "merged" / "data"
            wanted = "fuse-overlayfs" if shutil.which("fuse-overlayfs") else "vfs"
            assert engine.docker.out("info", "--format", "{{.Driver}}") == wanted
            assert engine.docker.out("run", "--rm", "busybox", "echo", "nested") == "nested"
            engine.restart()
            assert engine.docker.out("run", "--rm", "busybox", "echo", "again") == "again"
    finally:
        subprocess.run(["umount", tmp_path / "merged"], check=True)
