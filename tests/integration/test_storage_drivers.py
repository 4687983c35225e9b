"""Storage drivers: each runs containers of an image of several layers, keeps them over restarts, and leaves nothing."""

import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.engine import Engine
from support.processes import wait_for

pytestmark = pytest.mark.root


DRIVERS = ("vfs", "overlay2", "btrfs", "fuse-overlayfs", "devicemapper")
POOL = ("dm.loopdatasize=2g", "dm.loopmetadatasize=16m", "dm.basesize=160m", "dm.fs=ext4")


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
    if request.param == "devicemapper" and not os.path.exists("/dev/mapper/control"):
        pytest.skip("the kernel has no device mapper: scripts/vm has one")
    return str(request.param)


@pytest.fixture
def engine(driver: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    arguments = [f"--storage-driver={driver}"]
    if driver == "devicemapper":
        arguments += [word for option in POOL for word in ("--storage-opt", option)]
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


CHANGES = """
mkdir -p /new/dir && echo 1 > /new/dir/file && ln /new/dir/file /new/link && ln -s nowhere /new/symlink
mknod /new/fifo p; chmod 4755 /new/dir/file
rm -r /image/gone; echo more >> /image/kept; chmod 700 /image/mode; touch /image/again; rm /image/again
rm -r /image/replaced; echo file > /image/replaced
"""
IMAGE = """
mkdir -p /image/gone/below /image/mode /image/replaced/below /image/untouched
echo 1 > /image/gone/below/file; echo 2 > /image/kept; echo 3 > /image/untouched/file; ln /image/kept /image/linked
"""
DIFF = """C /image
D /image/gone
C /image/kept
C /image/linked
C /image/mode
C /image/replaced
A /new
A /new/dir
A /new/dir/file
A /new/fifo
A /new/link
A /new/symlink"""


def test_diff_commit_and_export_are_the_same_with_each(engine: Engine, driver: str, tmp_path: Path) -> None:
    docker = engine.docker
    docker("run", "--name", "first", "busybox", "sh", "-c", IMAGE)
    docker("commit", "first", "base")
    docker("run", "--name", "one", "--hostname", "h", "-t", "base", "sh", "-c", CHANGES)
    # an overlay sees one name of a hard link change when it is copied up by that name: the other keeps its old content
    wanted = DIFF.replace("C /image/linked\n", "") if driver == "overlay2" else DIFF
    assert docker.out("diff", "one") == wanted
    docker("commit", "one", "changed")
    archive = tmp_path / "saved.tar"
    docker("save", "-o", str(archive), "changed")
    members = layer_members(archive)
    assert {name for name in members if name.startswith((".wh", "etc", "dev", "proc", "sys", ".docker"))} == set()
    assert {"image/.wh.gone", "image/kept", "image/mode", "image/replaced", "new/dir/file", "new/fifo"} <= set(members)
    assert not {name for name in members if "untouched" in name or name == "image/again"}
    assert members["new/dir/file"].mode == 0o4755 and members["new/link"].linkname == "new/dir/file"
    listing = "cat /image/kept /image/replaced /new/link; stat -c '%a %h' /new/dir/file; ls /image"
    wanted_listing = "2\nmore\nfile\n1\n4755 2\nkept\nlinked\nmode\nreplaced\nuntouched"
    assert docker.out("run", "--rm", "changed", "sh", "-c", listing) == wanted_listing
    docker("export", "-o", str(tmp_path / "exported.tar"), "one")
    with tarfile.open(tmp_path / "exported.tar") as exported:
        names = set(exported.getnames())
    assert {"new/fifo", "image/untouched/file"} <= names and "image/gone" not in names


def test_a_container_that_changed_nothing_adds_no_layer(engine: Engine) -> None:
    docker = engine.docker
    docker("run", "--name", "one", "busybox", "true")
    assert docker.out("diff", "one") == ""
    docker("commit", "one", "same")
    layers = "{{len .RootFS.Layers}}"
    assert docker.out("inspect", "-f", layers, "same") == docker.out("inspect", "-f", layers, "busybox")


def layer_members(archive: Path) -> dict[str, tarfile.TarInfo]:
    """Of the uppermost layer in an archive of `save`."""
    with tarfile.open(archive) as saved:
        manifest = json.load(saved.extractfile("manifest.json"))  # type: ignore[arg-type]
        with tarfile.open(fileobj=saved.extractfile(manifest[0]["Layers"][-1])) as layer:
            return {member.name.strip("/"): member for member in layer}


def test_pruning_everything_leaves_nothing(engine: Engine) -> None:
    docker = engine.docker
    docker("run", "--name", "one", "-v", "vol:/vol", "busybox", "sh", "-c", "echo x > /vol/x; echo y > /y")
    docker("commit", "one", "second")
    docker("run", "--name", "two", "second", "sh", "-c", "cat /y > /z")
    docker("commit", "two", "third")
    docker("network", "create", "net")
    docker("volume", "rm", "-f", "vol", code=None)
    docker("system", "prune", "-a", "-f")
    docker("volume", "prune", "-a", "-f")
    wait_for(lambda: not any(rows(engine).values()), f"no row is left: {rows(engine)}", 20)
    wait_for(lambda: not snapshots(engine) and not blobs(engine), "no snapshot and no blob is left", 20)
    assert list((engine.data / "volumes").glob("*/_data")) == []
    engine.rorqual("system", "check")
    engine.import_busybox()
    assert docker.out("run", "--rm", "busybox", "echo", "again") == "again"


def rows(engine: Engine) -> dict[str, int]:
    tables = ("images", "content", "ingests", "snapshots", "containers", "leases", "lease_resources")
    with closing(sqlite3.connect(f"file:{engine.data}/meta.db?mode=ro", uri=True)) as db:
        return {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


def blobs(engine: Engine) -> list[Path]:
    return [path for path in (engine.data / "content").rglob("*") if path.is_file()]


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
    if driver == "devicemapper":  # 20 MB are less than its base device has
        assert "Container size cannot be smaller than" in engine.docker(*argv, code=125).err
        assert dict(engine.api("GET", "/info").json["DriverStatus"])["Backing Filesystem"] == "ext4"
        larger = [word.replace("20m", "300m") for word in argv[:5]]
        size = engine.docker.out(*larger, "sh", "-c", "df -m / | tail -n 1 | awk '{print $2}'")
        assert 250 < int(size) < 300
        return
    if driver != "btrfs":
        assert "--storage-opt is supported only for" in engine.docker(*argv, code=125).err
        return
    result = engine.docker(*argv, "conv=fsync", code=1)
    assert "quota exceeded" in result.err.lower()


@pytest.mark.parametrize("name", ["zfs", "aufs", "devicemapper", "btrfs", "nonsense"])
def test_a_driver_that_cannot_be_had_says_why(name: str, tmp_path: Path) -> None:
    if name == "zfs" and os.path.exists("/dev/zfs"):
        pytest.skip("this kernel has ZFS")
    if name == "devicemapper" and os.path.exists("/dev/mapper/control"):
        pytest.skip("this kernel has the device mapper")
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
