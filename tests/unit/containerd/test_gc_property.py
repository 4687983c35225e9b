"""For any store whatever: a collection keeps what something needs, removes all that nothing needs, and a second does
nothing. What is needed is worked out anew here, by names alone."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from rorqual.containerd.content.blobs import Blobs
from rorqual.containerd.content.store import ContentStore
from rorqual.containerd.gc import Collector
from rorqual.containerd.metadata.containers import Containers
from rorqual.containerd.metadata.content import ContentTable
from rorqual.containerd.metadata.database import Database
from rorqual.containerd.metadata.images import Images
from rorqual.containerd.metadata.leases import Leases
from rorqual.containerd.metadata.namespaces import Namespaces
from rorqual.containerd.metadata.records import Descriptor, Image, Kind, Resource, Usage
from rorqual.containerd.metadata.snapshots import SnapshotTable
from rorqual.rpc.proto.containers_pb2 import Container

COUNT = 6
PAST, FUTURE = "2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z"
_numbers = st.integers(0, COUNT - 1)
_some = st.frozensets(_numbers, max_size=2)


@dataclass(frozen=True)
class Blob:
    blobs: frozenset[int]
    snapshots: frozenset[int]
    root: bool
    expire: str


@dataclass(frozen=True)
class Layer:
    parent: int | None  # an earlier one
    pinned: bool
    transient: bool


@dataclass(frozen=True)
class Lease:
    blobs: frozenset[int]
    snapshots: frozenset[int]
    expire: str
    flat: bool


@dataclass(frozen=True)
class World:
    """Numbers are names; those that point at nothing are missing objects."""

    blobs: dict[int, Blob]
    layers: dict[int, Layer]
    leases: list[Lease]
    images: list[tuple[int, str]]
    containers: list[int] = field(default_factory=list)


_expire = st.sampled_from(("", "", "", PAST, FUTURE))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    blobs = st.builds(Blob, _some, _some, st.sampled_from((False, False, False, True)), _expire)
    layers: dict[int, Layer] = {}
    for number in sorted(draw(st.frozensets(_numbers))):
        parent = draw(st.sampled_from([None, *layers]))
        if parent is not None and (layers[parent].pinned or layers[parent].transient):
            parent = None  # those stay active here
        often = st.sampled_from((False, False, False, True))
        layers[number] = Layer(parent, draw(often), draw(often))
    return World(
        draw(st.dictionaries(_numbers, blobs)),
        layers,
        draw(st.lists(st.builds(Lease, _some, _some, _expire, st.booleans()), max_size=3)),
        draw(st.lists(st.tuples(_numbers, _expire), max_size=3)),
        draw(st.lists(_numbers, max_size=2)),
    )


def needed(world: World) -> tuple[set[int], set[int]]:
    """(blobs, snapshots) that must stay."""
    blobs = {n for n, b in world.blobs.items() if b.root or b.expire == FUTURE}
    blobs |= {target for target, expire in world.images if expire != PAST}
    layers = {n for n, layer in world.layers.items() if layer.pinned or layer.transient} | set(world.containers)
    flat: tuple[set[int], set[int]] = (set(), set())
    for lease in world.leases:
        if lease.expire == PAST:
            continue
        kept = flat if lease.flat else (blobs, layers)
        kept[0].update(lease.blobs)
        kept[1].update(lease.snapshots)
    while True:
        more_blobs = {m for n in blobs if n in world.blobs for m in world.blobs[n].blobs} - blobs
        more = {m for n in blobs if n in world.blobs for m in world.blobs[n].snapshots}
        parents = {world.layers[n].parent for n in layers if n in world.layers}
        more_layers = (more | {p for p in parents if p is not None}) - layers
        if not more_blobs and not more_layers:
            break
        blobs |= more_blobs
        layers |= more_layers
    # what a layer stands on has to stay with it, whoever holds it
    below: int | None
    for below in list(flat[1]):
        while below is not None:
            layers.add(below)
            below = world.layers[below].parent if below in world.layers else None
    stay = layers & set(world.layers)
    return (blobs | flat[0]) & set(world.blobs), stay


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def build(world: World, root: Path) -> Iterator[tuple[Collector, Database, Blobs]]:
    db = Database(root / "meta.db")
    namespaces = Namespaces(db)
    blobs, table = Blobs(root / "content"), ContentTable(db, namespaces)
    for number, blob in world.blobs.items():
        labels = {f"containerd.io/gc.ref.content.{i}": digest(m) for i, m in enumerate(sorted(blob.blobs))}
        labels |= {f"containerd.io/gc.ref.snapshot.overlayfs/{m}": f"s{m}" for m in blob.snapshots}
        labels |= {"containerd.io/gc.root": "x"} if blob.root else {}
        labels |= {"containerd.io/gc.expire": blob.expire} if blob.expire else {}
        Path(blobs.path(digest(number))).write_bytes(b"x")
        table.add("ns", digest(number), 1, labels)
    snapshots = SnapshotTable(db, namespaces, "overlayfs")
    for number, layer in world.layers.items():
        active = layer.pinned or layer.transient
        key = f"s{number}" if active else f"k{number}"
        parent = None if layer.parent is None else layer.parent + 1
        snapshots.add(number + 1, "ns", key, parent, Kind.ACTIVE, {}, pinned=layer.pinned, transient=layer.transient)
        if not active:
            snapshots.commit("ns", f"s{number}", key, parent, {}, Usage(0, 1))
    leases = Leases(db, namespaces)
    for number, lease in enumerate(world.leases):
        labels = {"containerd.io/gc.expire": lease.expire} if lease.expire else {}
        leases.create("ns", f"l{number}", labels | ({"containerd.io/gc.flat": "x"} if lease.flat else {}))
        for held in lease.blobs:
            leases.hold("ns", f"l{number}", Resource("content", digest(held)))
        for held in lease.snapshots:
            leases.hold("ns", f"l{number}", Resource("snapshots/overlayfs", f"s{held}"))
    images = Images(db, namespaces)
    for number, (target, expire) in enumerate(world.images):
        labels = {"containerd.io/gc.expire": expire} if expire else {}
        images.create("ns", Image(f"i{number}", Descriptor("m", digest(target), 1), labels))
    containers = Containers(db, namespaces)
    for number, key in enumerate(world.containers):
        record = Container(id=f"c{number}", snapshotter="overlayfs", snapshot_key=f"s{key}")
        record.runtime.name = "r"
        record.spec.type_url = "t"
        containers.create("ns", record)
    try:
        yield Collector(db, ContentStore(db, table, blobs), {}), db, blobs
    finally:
        db.close()


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_exactly_what_is_needed_is_kept(world: World) -> None:
    async def collect() -> None:
        with tempfile.TemporaryDirectory() as root:
            for collector, db, blobs in build(world, Path(root)):
                collector.run()
                await asyncio.get_running_loop().shutdown_default_executor()
                blobs_left = {int(d[7:], 16) for (d,) in db.rows("SELECT digest FROM content")}
                layers_left = {int(name[1:]) for (name,) in db.rows("SELECT name FROM snapshots")}
                assert (blobs_left, layers_left) == needed(world)
                files = {int(p.name, 16) for p in Path(blobs.path(digest(0))).parent.iterdir()}
                assert files == blobs_left
                assert not any(collector.run())
                assert not db.rows("PRAGMA foreign_key_check")

    asyncio.run(collect())
