"""The contract of snapshotters (rorqual.containerd.snapshotters.contract), held by every one of them."""

import asyncio
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rorqual import errdefs
from rorqual.containerd.metadata.database import Database
from rorqual.containerd.metadata.namespaces import Namespaces
from rorqual.containerd.metadata.records import Kind
from rorqual.containerd.metadata.snapshots import SnapshotTable
from rorqual.containerd.snapshotters.contract import Driver, Mount
from rorqual.containerd.snapshotters.native import NativeDriver
from rorqual.containerd.snapshotters.overlayfs import OverlayDriver
from rorqual.containerd.snapshotters.tree import TreeSnapshotter, first_ids

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

    async def layer(self, name: str, parent: str, files: dict[str, str | None]) -> None:
        """A committed snapshot with some files written and some (None) removed."""
        mounts = await self.snapshotter.prepare(NS, f"{name}-key", parent, {})
        with self.mounted(mounts) as root:
            for path, text in files.items():
                if text is None:
                    (root / path).unlink()
                else:
                    (root / path).parent.mkdir(parents=True, exist_ok=True)
                    (root / path).write_text(text)
        await self.snapshotter.commit(NS, name, f"{name}-key", {})

    def directories(self) -> set[str]:
        return {name for name in os.listdir(self.driver.root) if name.isdigit()}


@pytest.fixture(params=[OverlayDriver, NativeDriver], ids=lambda d: d.name)
def it(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fixture]:
    fixture = Fixture(request.param(str(tmp_path / "snapshots")), tmp_path)
    yield fixture
    fixture.close()


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
    assert await it.snapshotter.prepare(NS, "k", "base", {}) == it.snapshotter.mounts(NS, "k")


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
        it.snapshotter.mounts(NS, "base")
    with pytest.raises(errdefs.NotFound):
        it.snapshotter.mounts(NS, "missing")


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
    with it.mounted(it.snapshotter.mounts(NS, "k")) as root:
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
    await asyncio.sleep(0.1)
    await it.snapshotter.cleanup()
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
    if it.driver.rebases:  # native's snapshots own a copy of everything
        await it.snapshotter.prepare(NS, "k", "base", {})
        assert (await it.snapshotter.usage(NS, "k")).size < 20_000


async def test_a_parent_given_at_commit(it: Fixture) -> None:
    await it.layer("base", "", {"a": "1", "b": "2"})
    mounts = await it.snapshotter.prepare(NS, "k", "", {})
    with it.mounted(mounts) as root:
        (root / "a").write_text("changed")
    if not it.driver.rebases:
        with pytest.raises(errdefs.NotImplementedHere):
            await it.snapshotter.commit(NS, "top", "k", {"rorqual/parent": "base"})
        return
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
