"""The devmapper snapshotter beyond the contract: its pools, kill -9 anywhere, power loss, growth, a full pool."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from rorqual import errdefs
from rorqual.containerd.metadata.records import Kind
from rorqual.containerd.snapshotters.available import available
from rorqual.containerd.snapshotters.contract import SIZE_LABEL
from rorqual.containerd.snapshotters.devmapper import DevmapperDriver
from rorqual.containerd.snapshotters.dmoptions import parse
from rorqual.linux import dm, loop

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not os.path.exists(dm.CONTROL), reason="the kernel has no device mapper: scripts/vm has one"),
]

SMALL = ("dm.loopdatasize=512m", "dm.loopmetadatasize=8m", "dm.basesize=96m", "dm.fs=ext4")


def driver(root: Path, *options: str) -> DevmapperDriver:
    root.mkdir(exist_ok=True)
    return DevmapperDriver(str(root), parse(options or SMALL))


def empty(made: DevmapperDriver) -> None:
    """Remove all snapshots, as those of a killed process are at the next start."""
    for name in os.listdir(made.root):
        if name.isdigit():
            made.remove(int(name))


@contextmanager
def opened(root: Path, *options: str) -> Iterator[DevmapperDriver]:
    made = driver(root, *options)
    try:
        yield made
    finally:
        empty(made)
        made.close()
        assert devices() == []


def devices() -> list[str]:
    return [name for name in os.listdir("/sys/block") if name.startswith("dm-")]


def base_only(made: DevmapperDriver) -> int:
    return made.thin.status().data_used


def write(made: DevmapperDriver, number: int, chain: list[int], files: dict[str, str]) -> None:
    made.create(number, chain, Kind.ACTIVE, {})
    made.mounts(number, chain, Kind.ACTIVE, {})
    for name, text in files.items():
        Path(made.layer(number), name).write_text(text)
    made.seal(number)


def read(made: DevmapperDriver, number: int) -> dict[str, str]:
    made.ensure(made.layer(number))
    found = {path.name: path.read_text() for path in Path(made.layer(number)).iterdir()}
    made.seal(number)
    return found


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    """A block device of 512 MiB, full of zeros."""
    file = tmp_path / "disk"
    with file.open("wb") as made:
        made.truncate(512 << 20)
    path = loop.attach(str(file))
    yield path
    loop.detach(path)


def test_a_committed_snapshot_is_neither_mounted_nor_active(tmp_path: Path) -> None:
    with opened(tmp_path / "root") as made:
        pool_only = devices()
        write(made, 1, [], {"a": "1"})
        write(made, 2, [1], {"b": "2"})
        assert devices() == pool_only
        assert read(made, 2) == {"a": "1", "b": "2"}
        assert read(made, 1) == {"a": "1"}


def test_a_pool_is_found_again_and_all_in_it(tmp_path: Path) -> None:
    first = driver(tmp_path / "root")
    write(first, 1, [], {"a": "1"})
    first.mounts(1, [], Kind.ACTIVE, {})
    first.close()
    assert devices() == []  # as after a reboot
    with opened(tmp_path / "root") as second:
        assert read(second, 1) == {"a": "1"}


def test_snapshots_share_blocks_and_removal_gives_them_back(tmp_path: Path) -> None:
    with opened(tmp_path / "root") as made:
        before = base_only(made)
        disk = os.stat(tmp_path / "root" / "data").st_blocks
        write(made, 1, [], {"big": "x" * (16 << 20)})
        used = base_only(made)
        assert (used - before) * made.thin.block_bytes >= 16 << 20
        for number in range(2, 12):
            write(made, number, [1], {"small": str(number)})
        assert (base_only(made) - used) * made.thin.block_bytes < 16 << 20
        empty(made)
        assert base_only(made) == before
        assert os.stat(tmp_path / "root" / "data").st_blocks < disk + (8 << 20) // 512  # discards reach the file


def test_kill_9_at_any_moment_leaves_what_was_told_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "root"
    made = driver(root)
    base = base_only(made)
    write(made, 1, [], {"kept": "1"})
    chooser = random.Random(5)
    for _ in range(10):
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                churn(DevmapperDriver(str(root), parse(SMALL)))
            os._exit(1)
        time.sleep(chooser.uniform(0.05, 0.9))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        again = driver(root)
        for name in os.listdir(root):
            if name.isdigit() and name != "1":
                again.remove(int(name))
        assert read(again, 1) == {"kept": "1"}
        assert sorted(name for name in os.listdir(root) if name.isdigit()) == ["1"]
        assert len(devices()) == 1  # the pool
    again.remove(1)
    assert base_only(again) == base  # no device is left in the pool that no directory knows
    again.close()
    assert devices() == []


def churn(made: DevmapperDriver) -> None:
    """Make, stack and remove for ever."""
    for number in range(2, 1 << 20, 3):
        write(made, number, [1], {"a": "1"})
        made.create(number + 1, [], Kind.ACTIVE, {})
        made.mounts(number + 1, [], Kind.ACTIVE, {})
        Path(made.layer(number + 1), "b").write_text("2")
        made.stack(number + 1, [number, 1], ())
        made.seal(number + 1)
        made.create(number + 2, [number + 1, number, 1], Kind.ACTIVE, {})
        for each in (number + 2, number + 1, number):
            made.remove(each)


def test_kill_9_while_the_base_device_is_made(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    chooser = random.Random(7)
    for _ in range(5):
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                DevmapperDriver(str(root), parse(SMALL))
            os._exit(0)
        time.sleep(chooser.uniform(0.02, 0.6))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with opened(root) as made:
        write(made, 1, [], {"a": "1"})
        assert read(made, 1) == {"a": "1"}


def test_what_was_committed_survives_power_loss(tmp_path: Path) -> None:
    """The files below the pool are copied as a disk would be found: what they have is all there is."""
    made = driver(tmp_path / "root")
    write(made, 1, [], {"a": "1" * 100_000})
    subprocess.run(["cp", "-a", "--sparse=always", tmp_path / "root", tmp_path / "copy"], check=True)
    empty(made)
    made.close()
    with opened(tmp_path / "copy") as found:
        assert read(found, 1) == {"a": "1" * 100_000}


def test_a_device_in_use_is_deleted_when_its_user_has_gone(tmp_path: Path) -> None:
    with opened(tmp_path / "root") as made:
        before = base_only(made)
        made.create(1, [], Kind.ACTIVE, {})
        made.mounts(1, [], Kind.ACTIVE, {})
        with Path(made.layer(1), "open").open("wb") as file:
            file.write(b"x" * (4 << 20))
            made.remove(1)
            assert dict(made.status())["Deferred Deleted Device Count"] == "1"
            assert os.path.exists(f"{made.root}/1")
        write(made, 2, [], {})
        made.remove(2)
        assert dict(made.status())["Deferred Deleted Device Count"] == "0"
        assert base_only(made) == before


def test_a_block_device_becomes_the_pool(tmp_path: Path, device: str) -> None:
    options = (f"dm.directlvm_device={device}", "dm.basesize=96m", "dm.fs=ext4")
    made = driver(tmp_path / "root", *options)
    write(made, 1, [], {"a": "1"})
    made.close()
    with opened(tmp_path / "root", *options) as again:
        assert read(again, 1) == {"a": "1"}
        assert dict(again.status())["Pool Blocksize"] == "65.54kB"
    with pytest.raises(errdefs.InvalidArgument, match=r"is not empty, use dm\.directlvm_device_force=true"):
        driver(tmp_path / "another", *options)
    with opened(tmp_path / "another", *options, "dm.directlvm_device_force=true") as forced:
        write(forced, 1, [], {})


def test_somebody_s_pool_is_used_once(tmp_path: Path, device: str) -> None:
    sectors = loop.size_of(device) // dm.SECTOR_BYTES
    metadata = tmp_path / "metadata"
    with metadata.open("wb") as file:
        file.truncate(8 << 20)
    behind = loop.attach(str(metadata))
    dm.create("test-pool")
    dm.load("test-pool", [dm.Target(0, sectors, "thin-pool", f"{behind} {device} 128 0")])
    dm.resume("test-pool")
    try:
        options = ("dm.thinpooldev=test-pool", "dm.basesize=96m", "dm.fs=ext4")
        made = driver(tmp_path / "root", *options)
        write(made, 1, [], {"a": "1"})
        with pytest.raises(errdefs.InvalidArgument, match="Unable to take ownership of thin-pool"):
            driver(tmp_path / "another", *options)
        assert read(made, 1) == {"a": "1"}
        empty(made)
        made.close()
        found = dm.status("test-pool")
        assert found is not None and found.is_live  # it is not ours to end
        with pytest.raises(errdefs.InvalidArgument, match="thin pool missing does not exist"):
            driver(tmp_path / "third", "dm.thinpooldev=/dev/mapper/missing")
    finally:
        dm.remove("test-pool")
        loop.detach(behind)


def test_a_full_pool_refuses_new_snapshots_in_time(tmp_path: Path) -> None:
    small = ("dm.loopdatasize=128m", "dm.loopmetadatasize=8m", "dm.basesize=96m", "dm.fs=ext4")
    with opened(tmp_path / "root", *small, "dm.min_free_space=50%") as made:
        write(made, 1, [], {"big": "x" * (60 << 20)})
        with pytest.raises(errdefs.ResourceExhausted, match="free data blocks which is less than minimum required"):
            made.create(2, [], Kind.ACTIVE, {})
        assert not os.path.exists(f"{made.root}/2")
        made.remove(1)
        write(made, 2, [], {"a": "1"})


def test_sizes_grow_and_never_shrink(tmp_path: Path) -> None:
    root = tmp_path / "root"
    made = driver(root)
    write(made, 1, [], {"a": "1"})
    with pytest.raises(errdefs.InvalidArgument, match="Container size cannot be smaller than"):
        made.create(2, [1], Kind.ACTIVE, {SIZE_LABEL: str(32 << 20)})
    made.create(2, [1], Kind.ACTIVE, {SIZE_LABEL: str(256 << 20)})
    made.mounts(2, [1], Kind.ACTIVE, {})
    assert total(made.layer(2)) > 200 << 20
    made.seal(2)
    made.close()
    with opened(root, *SMALL, "dm.basesize=192m") as grown:
        write(grown, 3, [], {})
        grown.ensure(grown.layer(3))
        assert total(grown.layer(3)) > 150 << 20
        assert json.loads((root / "base.json").read_text())["sectors"] == (192 << 20) // 512
        assert read(grown, 2) == {"a": "1"}


def total(path: str) -> int:
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize


def test_xfs(tmp_path: Path) -> None:
    with opened(tmp_path / "root", *SMALL, "dm.fs=xfs", "dm.basesize=400m", "dm.loopdatasize=1g") as made:
        write(made, 1, [], {"a": "1"})
        made.create(2, [1], Kind.ACTIVE, {SIZE_LABEL: str(600 << 20)})
        made.mounts(2, [1], Kind.ACTIVE, {})
        made.ensure(made.layer(1))  # both at once, of one UUID
        assert total(made.layer(2)) > 500 << 20
        assert dict(made.status())["Backing Filesystem"] == "xfs"


def test_it_takes_a_pool_into_possession_only_for_who_asks(tmp_path: Path) -> None:
    _, refused = available(str(tmp_path / "snapshots"))
    assert refused["devmapper"] == "it is not the storage driver that was asked for"
    assert not (tmp_path / "snapshots" / "devmapper").exists()
    _, refused = available(str(tmp_path / "snapshots"), "devmapper", ["dm.fs=nonsense"])
    assert refused["devmapper"] == "Unsupported filesystem nonsense"
    drivers, refused = available(str(tmp_path / "snapshots"), "devmapper", SMALL)
    assert "devmapper" not in refused
    drivers[-1].close()
