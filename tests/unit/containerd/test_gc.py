"""What the collector keeps and what it removes."""

import time
from pathlib import Path

import pytest

from rorqual.containerd.content.blobs import Blobs
from rorqual.containerd.content.store import ContentStore
from rorqual.containerd.gc import Collector, Node, expired, references
from rorqual.containerd.metadata.content import ContentTable
from rorqual.containerd.metadata.database import Database
from rorqual.containerd.metadata.images import Images
from rorqual.containerd.metadata.leases import Leases
from rorqual.containerd.metadata.namespaces import Namespaces
from rorqual.containerd.metadata.records import Descriptor, Image, Kind, Resource, Usage
from rorqual.containerd.metadata.snapshots import SnapshotTable

MANIFEST, CONFIG, LAYER, ORPHAN = ("sha256:" + c * 64 for c in "abcd")


class World:
    """Rows of an image with its content and its unpacked layers; `left` says what a collection left."""

    def __init__(self, db: Database, namespaces: Namespaces, root: Path) -> None:
        self.db = db
        self.table = ContentTable(db, namespaces)
        self.images = Images(db, namespaces)
        self.leases = Leases(db, namespaces)
        self.snapshots = SnapshotTable(db, namespaces, "overlayfs")
        self.blobs = Blobs(root / "content")
        self.collector = Collector(db, ContentStore(db, self.table, self.blobs), {})
        self._id = 0

    def content(self, digest: str, **labels: str) -> None:
        Path(self.blobs.path(digest)).write_bytes(b"x")
        self.table.add("ns", digest, 1, {f"containerd.io/gc.{k}".replace("_", "."): v for k, v in labels.items()})

    def image(self) -> None:
        self.content(MANIFEST, ref_content_config=CONFIG, ref_content_l_0=LAYER)
        self.content(CONFIG, ref_snapshot_overlayfs="top")
        self.content(LAYER)
        self.images.create("ns", Image("img", Descriptor("m", MANIFEST, 1)))

    def snapshot(self, name: str, parent: str = "", *, pinned: bool = False, transient: bool = False) -> None:
        parent_id = self.snapshots.get("ns", parent).id if parent else None
        self._id += 1
        self.snapshots.add(
            self._id, "ns", f"key-{name}", parent_id, Kind.ACTIVE, {}, pinned=pinned, transient=transient
        )
        if not transient and not pinned:
            self.snapshots.commit("ns", name, f"key-{name}", parent_id, {}, Usage(0, 1))

    def left(self) -> set[str]:
        self.collector.run()
        names = self.db.rows("SELECT digest FROM content UNION SELECT name FROM snapshots")
        return {name for (name,) in names}


@pytest.fixture
def world(db: Database, namespaces: Namespaces, tmp_path: Path) -> World:
    return World(db, namespaces, tmp_path)


async def test_an_image_keeps_its_content_and_layers(world: World) -> None:
    world.snapshot("base")
    world.snapshot("top", "base")
    world.image()
    world.content(ORPHAN)
    assert world.left() == {MANIFEST, CONFIG, LAYER, "base", "top"}
    assert not Path(world.blobs.path(ORPHAN)).exists()


async def test_everything_goes_with_the_image(world: World) -> None:
    world.snapshot("base")
    world.snapshot("top", "base")
    world.image()
    world.images.delete("ns", "img")
    assert world.left() == set()


async def test_a_rebased_layer_older_than_its_parent_goes_too(world: World) -> None:
    world.snapshots.add(1, "ns", "k1", None, Kind.ACTIVE, {}, pinned=False, transient=False)
    world.snapshots.add(2, "ns", "k2", None, Kind.ACTIVE, {}, pinned=False, transient=False)
    world.snapshots.commit("ns", "base", "k2", None, {}, Usage(0, 1))
    world.snapshots.commit("ns", "top", "k1", 2, {}, Usage(0, 1))
    assert world.left() == set()


async def test_a_lease_keeps_what_a_running_pull_has_so_far(world: World) -> None:
    world.leases.create("ns", "pull", {})
    world.content(LAYER)
    world.leases.hold("ns", "pull", Resource("content", LAYER))
    world.snapshot("base")
    world.leases.hold("ns", "pull", Resource("snapshots/overlayfs", "base"))
    assert world.left() == {LAYER, "base"}
    world.leases.delete("ns", "pull")
    assert world.left() == set()


async def test_a_flat_lease_keeps_no_references(world: World) -> None:
    world.image()
    world.images.delete("ns", "img")
    world.leases.create("ns", "flat", {"containerd.io/gc.flat": "1"})
    world.leases.hold("ns", "flat", Resource("content", MANIFEST))
    assert world.left() == {MANIFEST}


async def test_an_expired_lease_keeps_nothing(world: World) -> None:
    world.leases.create("ns", "old", {"containerd.io/gc.expire": "2020-01-01T00:00:00Z"})
    world.content(LAYER)
    world.leases.hold("ns", "old", Resource("content", LAYER))
    assert world.left() == set()
    assert world.leases.all("ns") == []


async def test_pinned_snapshots_and_those_being_unpacked_stay(world: World) -> None:
    world.snapshot("base")
    world.snapshot("container", "base", pinned=True)
    world.snapshot("layer", transient=True)
    assert world.left() == {"base", "key-container", "key-layer"}


async def test_a_root_label_keeps(world: World) -> None:
    world.content(ORPHAN, root="now")
    assert world.left() == {ORPHAN}


async def test_a_cycle_of_references_ends(world: World) -> None:
    world.content(MANIFEST, ref_content=LAYER)
    world.content(LAYER, ref_content=MANIFEST)
    assert world.left() == set()


async def test_an_old_ingest_goes_and_a_young_one_stays(world: World) -> None:
    world.table.begin("ns", "young", "", 0)
    old = world.table.begin("ns", "old", "", 0)
    world.db.execute("UPDATE ingests SET updated_ns = ? WHERE id = ?", (time.time_ns() - 25 * 3600 * 10**9, old.id))
    world.left()
    assert [i.ref for i in world.table.ingests("ns")] == ["young"]


def test_references_of_labels() -> None:
    labels = {
        "containerd.io/gc.ref.content": "d1",
        "containerd.io/gc.ref.content.config": "d2",
        "containerd.io/gc.ref.content/x": "d3",
        "containerd.io/gc.ref.contentious": "no",
        "containerd.io/gc.ref.snapshot.overlayfs": "s1",
        "containerd.io/gc.ref.snapshot.overlayfs/x": "s2",
        "containerd.io/gc.ref.image.a": "i",
        "other": "no",
    }
    assert set(references("n", labels)) == {
        *(Node("content", "n", f"d{i}") for i in (1, 2, 3)),
        *(Node("snapshots/overlayfs", "n", f"s{i}") for i in (1, 2)),
        Node("images", "n", "i"),
    }


def test_an_unreadable_expiry_is_none() -> None:
    assert not expired({"containerd.io/gc.expire": "soon"}, time.time())
    assert not expired({}, time.time())


async def test_a_flat_lease_keeps_what_its_snapshot_stands_on(world: World) -> None:
    world.snapshot("base")
    world.snapshot("top", "base")
    world.leases.create("ns", "flat", {"containerd.io/gc.flat": "1"})
    world.leases.hold("ns", "flat", Resource("snapshots/overlayfs", "top"))
    assert world.left() == {"base", "top"}
