"""The contract of snapshotters (rorqual.containerd.snapshotters.contract), held by every one of them."""

import asyncio
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from rorqual import errdefs
from rorqual.containerd.metadata.database import Database
from rorqual.containerd.metadata.namespaces import Namespaces
from rorqual.containerd.metadata.records import Kind, Pending, Usage
from rorqual.containerd.metadata.snapshots import SnapshotTable
from rorqual.containerd.snapshotters import dmoptions, fuse_overlayfs
from rorqual.containerd.snapshotters.available import available
from rorqual.containerd.snapshotters.btrfs import BtrfsDriver
from rorqual.containerd.snapshotters.contract import SIZE_LABEL, Driver, Mount
from rorqual.containerd.snapshotters.devmapper import DevmapperDriver
from rorqual.containerd.snapshotters.fuse_overlayfs import FuseOverlayDriver
from rorqual.containerd.snapshotters.native import NativeDriver
from rorqual.containerd.snapshotters.overlayfs import OverlayDriver
from rorqual.containerd.snapshotters.tree import TreeSnapshotter, first_ids
from rorqual.linux import dm

pytestmark = pytest.mark.root

NS = "contract"


class Fixture:
    """A snapshotter in a directory of its own, and mounts of it."""

    def __init__(self, driver: Driver, tmp_path: Path) -> None:
        self.db = Database(tmp_path / "meta.db")
        self.driver = driver
        self._points = tmp_path / "points"
        self._points.mkdir(exist_ok=True)
        self.open()

    def open(self) -> None:
        """As at a start."""
        table = SnapshotTable(self.db, Namespaces(self.db), self.driver.name)
        table.drop_transient()
        self.snapshotter = TreeSnapshotter(self.driver, table, first_ids(table.last_id(), [self.driver.root]))

    def remove_all(self) -> None:
        """Every snapshot, children first."""
        for ns, name in self.db.rows("SELECT ns, name FROM snapshots ORDER BY id DESC"):
            with suppress(errdefs.Conflict):
                self.snapshotter.remove_files([self.snapshotter.table.remove(ns, name).id])
        for ns, name in self.db.rows("SELECT ns, name FROM snapshots ORDER BY id"):
            self.snapshotter.remove_files([self.snapshotter.table.remove(ns, name).id])
        for name in self.directories():
            self.snapshotter.remove_files([int(name)])
        self.snapshotter.finish_removals()

    def close(self) -> None:
        self.snapshotter.close()
        self.db.close()

    @contextmanager
    def mounted(self, mounts: list[Mount]) -> Iterator[Path]:
        """The snapshot's files, for as long as the block lasts."""
        (mount,) = mounts
        point = self._points / str(len(list(self._points.iterdir())))
        point.mkdir()
        options = ",".join(mount.options)
        subprocess.run(["mount", "-t", mount.type, "-o", options, mount.source, str(point)], check=True)
        if mount.type == "bind" and "ro" in mount.options:
            subprocess.run(["mount", "-o", "remount,bind,ro", str(point)], check=True)
        try:
            yield point
        finally:
            subprocess.run(["umount", str(point)], check=True)

    async def layer(
        self, name: str, parent: str, files: Mapping[str, str | None], modes: Mapping[str, int] | None = None
    ) -> None:
        """A committed snapshot with some files written and some (None) removed."""
        mounts = await self.snapshotter.prepare(NS, f"{name}-key", parent, {})
        with self.mounted(mounts) as root:
            for path, text in files.items():
                if text is None:
                    (root / path).unlink()
                else:
                    (root / path).parent.mkdir(parents=True, exist_ok=True)
                    (root / path).write_text(text)
            for path, mode in (modes or {}).items():
                (root / path).chmod(mode)
        await self.snapshotter.commit(NS, name, f"{name}-key", {})

    def directories(self) -> set[str]:
        return {name for name in os.listdir(self.driver.root) if name.isdigit()}


POOL = ("dm.loopdatasize=1g", "dm.loopmetadatasize=16m", "dm.basesize=128m", "dm.fs=ext4")
DRIVERS: dict[str, Callable[[str], Driver]] = {
    "overlayfs": OverlayDriver,
    "native": NativeDriver,
    "btrfs": BtrfsDriver,
    "fuse-overlayfs": FuseOverlayDriver,
    "devmapper": lambda root: DevmapperDriver(root, dmoptions.parse(POOL)),
}


@pytest.fixture(scope="module")
def btrfs_mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """A btrfs file system in a file; None where the kernel or the tools have none."""
    if not shutil.which("mkfs.btrfs"):
        yield None
        return
    image, point = tmp_path_factory.mktemp("btrfs") / "image", tmp_path_factory.mktemp("mnt")
    with image.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, point], check=False, capture_output=True).returncode:
        yield None
        return
    yield point
    subprocess.run(["umount", point], check=True)
    image.unlink()


@pytest.fixture(params=DRIVERS)
def it(request: pytest.FixtureRequest, tmp_path: Path, btrfs_mount: Path | None) -> Iterator[Fixture]:
    root = tmp_path / "snapshots"
    if request.param == "btrfs":
        if btrfs_mount is None:
            pytest.skip("no btrfs here")
        root = btrfs_mount / tmp_path.name
    if request.param == "fuse-overlayfs" and (why := fuse_overlayfs.missing()):
        pytest.skip(why)
    if request.param == "devmapper" and not os.path.exists(dm.CONTROL):
        pytest.skip("the kernel has no device mapper: scripts/vm has one")
    root.mkdir()
    fixture = Fixture(DRIVERS[request.param](str(root)), tmp_path)
    yield fixture
    fixture.remove_all()
    fixture.close()
    assert [name for name in os.listdir(root) if name.isdigit()] == []
    if request.param == "devmapper":
        assert [name for name in os.listdir("/sys/block") if name.startswith("dm-")] == []
    else:
        assert os.listdir(root) == []


def tree(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): p.read_text() for p in root.rglob("*") if p.is_file()}


async def test_a_child_has_its_parents_files_and_changes_only_its_own(it: Fixture) -> None:
    await it.layer("base", "", {"a": "1", "b": "2", "d/e": "3"})
    await it.layer("top", "base", {"a": "changed", "b": None, "new": "4"})
    with it.mounted(await it.snapshotter.view(NS, "v1", "base", {})) as root:
        assert tree(root) == {"a": "1", "b": "2", "d/e": "3"}
    with it.mounted(await it.snapshotter.view(NS, "v2", "top", {})) as root:
        assert tree(root) == {"a": "changed", "d/e": "3", "new": "4"}


async def test_two_children_do_not_see_each_other(it: Fixture) -> None:
    await it.layer("base", "", {"a": "1"})
    one = await it.snapshotter.prepare(NS, "one", "base", {})
    two = await it.snapshotter.prepare(NS, "two", "base", {})
    with it.mounted(one) as first, it.mounted(two) as second:
        (first / "a").write_text("first")
        assert (second / "a").read_text() == "1"


async def test_a_view_is_read_only(it: Fixture) -> None:
    await it.layer("base", "", {"a": "1"})
    with it.mounted(await it.snapshotter.view(NS, "v", "base", {})) as root, pytest.raises(OSError, match="ead-only"):
        (root / "a").write_text("x")


async def test_mounts_are_the_same_again(it: Fixture) -> None:
    await it.layer("base", "", {})
    assert await it.snapshotter.prepare(NS, "k", "base", {}) == await it.snapshotter.mounts(NS, "k")


async def test_the_root_directory_looks_as_the_parents_does(it: Fixture) -> None:
    mounts = await it.snapshotter.prepare(NS, "k", "", {})
    with it.mounted(mounts) as root:
        os.chmod(root, 0o751)
        os.chown(root, 12, 34)
    await it.snapshotter.commit(NS, "base", "k", {})
    with it.mounted(await it.snapshotter.prepare(NS, "c", "base", {})) as root:
        status = root.stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o751, 12, 34)


async def test_a_name_is_taken_once(it: Fixture) -> None:
    await it.layer("base", "", {})
    await it.snapshotter.prepare(NS, "k", "base", {})
    for key in ("k", "base"):
        with pytest.raises(errdefs.AlreadyExists):
            await it.snapshotter.prepare(NS, key, "base", {})
    with pytest.raises(errdefs.AlreadyExists):
        await it.snapshotter.commit(NS, "base", "k", {})
    await it.snapshotter.prepare("elsewhere", "k", "", {})


async def test_of_many_who_want_a_name_at_once_one_gets_it(it: Fixture) -> None:
    attempts = (it.snapshotter.prepare(NS, "k", "", {}) for _ in range(8))
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(r, list) for r in results) == 1
    assert sum(isinstance(r, errdefs.AlreadyExists) for r in results) == 7
    await it.snapshotter.cleanup()
    assert len(it.directories()) == 1


async def test_only_a_committed_one_is_a_parent(it: Fixture) -> None:
    await it.snapshotter.prepare(NS, "active", "", {})
    with pytest.raises(errdefs.InvalidArgument):
        await it.snapshotter.prepare(NS, "k", "active", {})
    with pytest.raises(errdefs.NotFound):
        await it.snapshotter.prepare(NS, "k", "missing", {})


async def test_only_an_active_one_is_committed(it: Fixture) -> None:
    await it.layer("base", "", {})
    await it.snapshotter.view(NS, "v", "base", {})
    for key in ("base", "v"):
        with pytest.raises(errdefs.Conflict):
            await it.snapshotter.commit(NS, "new", key, {})
    with pytest.raises(errdefs.NotFound):
        await it.snapshotter.commit(NS, "new", "missing", {})


async def test_a_committed_one_has_no_mounts(it: Fixture) -> None:
    await it.layer("base", "", {})
    with pytest.raises(errdefs.Conflict):
        await it.snapshotter.mounts(NS, "base")
    with pytest.raises(errdefs.NotFound):
        await it.snapshotter.mounts(NS, "missing")


async def test_one_with_children_is_not_removed(it: Fixture) -> None:
    await it.layer("base", "", {})
    await it.snapshotter.prepare(NS, "k", "base", {})
    with pytest.raises(errdefs.Conflict, match="with child"):
        await it.snapshotter.remove(NS, "base")
    await it.snapshotter.remove(NS, "k")
    await it.snapshotter.remove(NS, "base")
    with pytest.raises(errdefs.NotFound):
        await it.snapshotter.remove(NS, "base")


async def test_removal_frees_the_name_at_once_and_the_files_by_cleanup(it: Fixture) -> None:
    await it.layer("base", "", {"a": "1"})
    await it.snapshotter.remove(NS, "base")
    await it.layer("base", "", {"a": "2"})
    await it.snapshotter.cleanup()
    assert len(it.directories()) == 1


async def test_an_interrupted_removal_is_finished_at_the_next_start(it: Fixture) -> None:
    await it.layer("base", "", {"a": "1"})
    it.snapshotter.table.remove(NS, "base")  # and the process is killed here
    it.open()
    await it.snapshotter.prepare(NS, "k", "", {})
    await it.snapshotter.cleanup()
    assert len(it.directories()) == 1
    with it.mounted(await it.snapshotter.mounts(NS, "k")) as root:
        assert tree(root) == {}


async def test_a_transient_one_ends_with_the_process(it: Fixture) -> None:
    await it.snapshotter.prepare(NS, "k", "", {}, transient=True)
    it.open()
    await it.snapshotter.cleanup()
    assert it.directories() == set()
    assert it.snapshotter.walk(NS) == []


async def test_a_cancelled_prepare_leaves_nothing(it: Fixture) -> None:
    await it.layer("base", "", {"a": "1"})
    task = asyncio.create_task(it.snapshotter.prepare(NS, "k", "base", {}))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(100):  # what a thread was making goes once it is made
        await asyncio.sleep(0.1)
        await it.snapshotter.cleanup()
        if len(it.directories()) == 1:
            break
    assert len(it.directories()) == 1
    await it.snapshotter.prepare(NS, "k", "base", {})


async def test_walk_stat_and_labels(it: Fixture) -> None:
    await it.layer("base", "", {})
    await it.snapshotter.prepare(NS, "k", "base", {"a": "1", "b": "2"})
    assert [(s.name, s.parent, s.kind) for s in it.snapshotter.walk(NS)] == [
        ("base", "", Kind.COMMITTED),
        ("k", "base", Kind.ACTIVE),
    ]
    it.snapshotter.update(NS, "k", {"a": "3"}, ["labels.a", "labels.b"])
    assert it.snapshotter.stat(NS, "k").labels == {"a": "3"}
    with pytest.raises(errdefs.InvalidArgument):
        it.snapshotter.update(NS, "k", {}, ["parent"])


async def test_usage_counts_its_own_files(it: Fixture) -> None:
    await it.layer("base", "", {"big": "x" * 100_000})
    base = await it.snapshotter.usage(NS, "base")
    assert base.size >= 100_000
    assert base.inodes == 2
    if it.driver.name.endswith("overlayfs"):  # the others' snapshots own, or refer to, a copy of everything
        await it.snapshotter.prepare(NS, "k", "base", {})
        assert (await it.snapshotter.usage(NS, "k")).size < 20_000


async def test_a_parent_given_at_commit(it: Fixture) -> None:
    await it.layer("base", "", {"a": "1", "b": "2"})
    mounts = await it.snapshotter.prepare(NS, "k", "", {})
    with it.mounted(mounts) as root:
        (root / "a").write_text("changed")
    with pytest.raises(errdefs.NotFound):
        await it.snapshotter.commit(NS, "top", "k", {"rorqual/parent": "missing"})
    await it.snapshotter.commit(NS, "top", "k", {"rorqual/parent": "base", "x": "y"})
    assert it.snapshotter.stat(NS, "top").parent == "base"
    assert it.snapshotter.stat(NS, "top").labels == {"x": "y"}
    with it.mounted(await it.snapshotter.view(NS, "v", "top", {})) as root:
        assert tree(root) == {"a": "changed", "b": "2"}
    await it.snapshotter.prepare(NS, "k2", "base", {})
    with pytest.raises(errdefs.Conflict):
        await it.snapshotter.commit(NS, "top2", "k2", {"rorqual/parent": "top"})


async def test_a_layer_unpacked_alone_hides_and_replaces_what_its_parent_has(it: Fixture) -> None:
    files = {"gone": "1", "kept": "2", "opaque/below": "3", "dir-to-file/x": "4", "file-to-dir": "5", "merged/a": "6"}
    await it.layer("base", "", {**files, "merged/a2": "6", "merged/c": "7"}, {"merged": 0o3777})
    await it.snapshotter.prepare(NS, "k", "", {})
    layer = Path(it.driver.layer(it.snapshotter.stat(NS, "k").id))  # as the unpacker fills it
    os.mknod(layer / "gone", stat.S_IFCHR)
    (layer / "opaque").mkdir()
    os.setxattr(layer / "opaque", "trusted.overlay.opaque", b"y")
    (layer / "opaque" / "above").write_text("7")
    (layer / "dir-to-file").write_text("8")
    (layer / "file-to-dir").mkdir()
    (layer / "file-to-dir" / "y").write_text("9")
    (layer / "merged").mkdir(mode=0o750)
    (layer / "merged" / "b").write_text("10")
    (layer / "merged" / "c").write_text("11")
    os.mknod(layer / "merged" / "a2", stat.S_IFCHR)
    os.utime(layer / "merged", (10**9, 10**9))
    os.link(layer / "merged" / "b", layer / "linked")
    os.symlink("/etc/passwd", layer / "link")
    (layer / "link-target").mkdir()
    await it.snapshotter.commit(NS, "top", "k", {"rorqual/parent": "base"})
    with it.mounted(await it.snapshotter.view(NS, "v", "top", {})) as root:
        found = {str(p.relative_to(root)): p.read_text() for p in root.rglob("*") if p.is_file() and not p.is_symlink()}
        assert found == {
            "kept": "2",
            "opaque/above": "7",
            "dir-to-file": "8",
            "file-to-dir/y": "9",
            "merged/a": "6",
            "merged/b": "10",
            "merged/c": "11",
            "linked": "10",
        }
        assert (root / "linked").stat().st_nlink == 2
        assert stat.S_IMODE((root / "merged").stat().st_mode) == 0o750
        assert (root / "merged").stat().st_mtime == 10**9
        assert os.readlink(root / "link") == "/etc/passwd"
        assert not (root / "gone").exists()
    with it.mounted(await it.snapshotter.prepare(NS, "c", "top", {})) as root:
        (root / "opaque" / "below").write_text("new")
        assert sorted(os.listdir(root / "opaque")) == ["above", "below"]


async def test_a_layers_link_in_place_of_a_directory_never_leads_out(it: Fixture, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    await it.snapshotter.prepare(NS, "b", "", {})
    os.symlink(outside, Path(it.driver.layer(it.snapshotter.stat(NS, "b").id)) / "d")
    await it.snapshotter.commit(NS, "base", "b", {})
    await it.snapshotter.prepare(NS, "k", "", {})
    layer = Path(it.driver.layer(it.snapshotter.stat(NS, "k").id))
    (layer / "d").mkdir()
    (layer / "d" / "file").write_text("x")
    await it.snapshotter.commit(NS, "top", "k", {"rorqual/parent": "base"})
    assert os.listdir(outside) == []
    with it.mounted(await it.snapshotter.view(NS, "v", "top", {})) as root:
        assert tree(root) == {"d/file": "x"}


async def test_a_layers_hard_link_to_a_file_of_the_layers_below(it: Fixture, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("the host's")
    await it.layer("base", "", {"dir/file": "1", "gone": "2"}, {"dir/file": 0o4751})
    await it.layer("middle", "base", {"gone": None, "other": "3"})

    async def linked(key: str, *links: tuple[str, str]) -> Path:
        await it.snapshotter.prepare(NS, key, "", {})
        it.snapshotter.table.unpacked(NS, key, Usage(1, 1), Pending((), links))
        return Path(it.driver.layer(it.snapshotter.stat(NS, key).id))

    layer = await linked("k", ("sub/linked", "dir/file"), ("again", "sub/linked"), ("own", "dir/file"), ("o", "other"))
    (layer / "sub").mkdir()
    (layer / "own").write_text("of a later entry")
    await it.snapshotter.commit(NS, "top", "k", {"rorqual/parent": "middle"})
    with it.mounted(await it.snapshotter.view(NS, "v", "top", {})) as root:
        found = tree(root)
        assert found == {
            "dir/file": "1",
            "other": "3",
            "sub/linked": "1",
            "again": "1",
            "own": "of a later entry",
            "o": "3",
        }
        for name in ("sub/linked", "again"):
            one, other = (root / name).stat(), (root / "dir/file").stat()
            assert (one.st_mode, one.st_uid, one.st_mtime_ns) == (other.st_mode, other.st_uid, other.st_mtime_ns)
    for number, target in enumerate(("gone", "nosuch", "dir", "other/below", "link/file")):
        layer = await linked(f"bad{number}", ("l", target))
        os.symlink(outside, layer / "link")
        with pytest.raises(errdefs.InvalidArgument, match="hard link to"):
            await it.snapshotter.commit(NS, f"badtop{number}", f"bad{number}", {"rorqual/parent": "middle"})
    await linked("alone", ("l", "dir/file"))
    with pytest.raises(errdefs.InvalidArgument, match="which is not in the layer"):
        await it.snapshotter.commit(NS, "alonetop", "alone", {})


async def test_a_size_quota_holds_or_is_refused(it: Fixture) -> None:
    await it.layer("base", "", {"a": "1"})
    if it.driver.name not in ("btrfs", "devmapper"):
        with pytest.raises(errdefs.InvalidArgument):
            await it.snapshotter.prepare(NS, "k", "base", {SIZE_LABEL: "8388608"})
        assert [s.name for s in it.snapshotter.walk(NS)] == ["base"]
        return
    size, full = (8 << 20, "quota") if it.driver.name == "btrfs" else (160 << 20, "No space")
    with it.mounted(await it.snapshotter.prepare(NS, "k", "base", {SIZE_LABEL: str(size)})) as root:
        if it.driver.name == "devmapper":
            assert os.statvfs(root).f_blocks * os.statvfs(root).f_frsize > 130 << 20  # grown beyond the base device
        with pytest.raises(OSError, match=full), (root / "big").open("wb") as file:
            for _ in range(192):
                file.write(os.urandom(1 << 20))
                file.flush()
                os.fsync(file.fileno())
        assert (root / "a").read_text() == "1"


def test_what_cannot_be_had_is_refused_with_the_reason(tmp_path: Path) -> None:
    drivers, refused = available(str(tmp_path / "snapshots"))
    names = {driver.name for driver in drivers}
    assert {"overlayfs", "native"} <= names
    assert names | set(refused) == {"overlayfs", "native", "btrfs", "fuse-overlayfs", "devmapper", "zfs", "aufs"}
    assert not names & set(refused) and all(refused.values())
    assert refused["btrfs"] == f"{tmp_path}/snapshots/btrfs is not on a btrfs file system"


def test_overlayfs_on_an_overlay_is_refused(tmp_path: Path) -> None:
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, tmp_path / "merged"], check=True)
    try:
        drivers, refused = available(str(tmp_path / "merged" / "snapshots"))
        assert "cannot be mounted" in refused["overlayfs"] or "whiteouts" in refused["overlayfs"]
        assert "native" in {driver.name for driver in drivers}
        assert os.listdir(tmp_path / "merged" / "snapshots" / "overlayfs") == []
    finally:
        subprocess.run(["umount", tmp_path / "merged"], check=True)


async def test_a_cleanup_spares_what_is_being_made(it: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    made, go = threading.Event(), threading.Event()
    create = it.driver.create

    def slow(*arguments: Any) -> None:
        create(*arguments)
        made.set()
        go.wait(10)

    monkeypatch.setattr(it.driver, "create", slow)
    preparing = asyncio.create_task(it.snapshotter.prepare(NS, "k", "", {}))
    await asyncio.to_thread(made.wait, 10)
    await it.snapshotter.cleanup()
    go.set()
    with it.mounted(await preparing) as root:
        assert tree(root) == {}
