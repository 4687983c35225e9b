"""Unpacked layers and power loss: what is synced before a name, and what is forgotten at the next start."""

import asyncio
from pathlib import Path

import pytest

from rorqual import errdefs
from rorqual.containerd.metadata.database import Database
from rorqual.containerd.metadata.namespaces import Namespaces
from rorqual.containerd.metadata.records import Kind, Usage
from rorqual.containerd.metadata.snapshots import SnapshotTable
from rorqual.containerd.snapshotters import stable as module
from rorqual.containerd.snapshotters.stable import StableStorage


class Disk:
    """Counts syncfs calls, each held until `release`; may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: list[str] = []
        self.failure: OSError | None = None
        monkeypatch.setattr(module, "syncfs", self._syncfs)

    async def _syncfs(self, path: str) -> None:
        self.synced.append(path)
        if self.failure is not None:
            raise self.failure


class World:
    def __init__(self, db: Database, namespaces: Namespaces, root: Path, boot: str) -> None:
        self.table = SnapshotTable(db, namespaces, "overlayfs", boot)
        self.stable = StableStorage(db, {"overlayfs": str(root)}, boot)
        self._ids = iter(range(self.table.last_id() + 1, 1000))

    def layer(self, name: str, parent: str = "") -> None:
        self.active(f"{name}-key", parent)
        parent_id = self.table.get("ns", parent).id if parent else None
        self.table.commit("ns", name, f"{name}-key", parent_id, {}, Usage(0, 1))

    def active(self, key: str, parent: str = "") -> None:
        parent_id = self.table.get("ns", parent).id if parent else None
        self.table.add(next(self._ids), "ns", key, parent_id, Kind.ACTIVE, {}, pinned=True, transient=False)

    def names(self) -> set[str]:
        return {s.name for s in self.table.all("ns")}


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def test_one_sync_for_all_layers_and_none_when_nothing_was_made(
    db: Database, namespaces: Namespaces, tmp_path: Path, disk: Disk
) -> None:
    world = World(db, namespaces, tmp_path, "boot-1")
    await world.stable.settle()
    assert disk.synced == []
    world.layer("base")
    world.layer("top", "base")
    await asyncio.gather(*(world.stable.settle() for _ in range(5)))
    assert disk.synced == [str(tmp_path)]
    await world.stable.settle()
    assert len(disk.synced) == 1


async def test_layers_that_were_not_synced_are_forgotten_after_a_power_loss(
    db: Database, namespaces: Namespaces, tmp_path: Path, disk: Disk
) -> None:
    before = World(db, namespaces, tmp_path, "boot-1")
    before.layer("base")
    await before.stable.settle()
    before.layer("torn", "base")
    before.layer("torn-too", "torn")
    after = World(db, namespaces, tmp_path, "boot-2")
    assert after.stable.forget_torn() == 2
    assert after.names() == {"base"}


async def test_the_same_boot_keeps_what_is_still_in_memory(
    db: Database, namespaces: Namespaces, tmp_path: Path, disk: Disk
) -> None:
    World(db, namespaces, tmp_path, "boot-1").layer("base")
    again = World(db, namespaces, tmp_path, "boot-1")
    assert again.stable.forget_torn() == 0
    await again.stable.settle()
    assert disk.synced == [str(tmp_path)]


async def test_what_a_writable_snapshot_stands_on_is_kept(
    db: Database, namespaces: Namespaces, tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    before = World(db, namespaces, tmp_path, "boot-1")
    before.layer("base")
    before.layer("used", "base")
    before.layer("unused", "base")
    before.active("container", "used")
    after = World(db, namespaces, tmp_path, "boot-2")
    assert after.stable.forget_torn() == 1
    assert after.names() == {"base", "used", "container"}
    assert "not synced" in caplog.text


async def test_a_failing_disk_fails_who_waits_and_is_asked_again(
    db: Database, namespaces: Namespaces, tmp_path: Path, disk: Disk
) -> None:
    world = World(db, namespaces, tmp_path, "boot-1")
    world.layer("base")
    disk.failure = OSError(5, "Input/output error", "/x")
    with pytest.raises(errdefs.Internal, match="Input/output error"):
        await world.stable.settle()
    disk.failure = None
    await world.stable.settle()
    assert len(disk.synced) == 2
