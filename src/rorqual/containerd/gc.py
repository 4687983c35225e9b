"""Garbage collection: what no lease, image, container or root label reaches is removed.

    roots    leases, images, containers, objects labelled containerd.io/gc.root, snapshots pinned or being unpacked
    edges    image -> target; container -> snapshot; snapshot -> parent; lease -> its resources;
             label containerd.io/gc.ref.content[...] = digest, containerd.io/gc.ref.snapshot.<snapshotter>[/...] = name

Marking and sweeping are one transaction in the loop without an await: nothing can be added in between.
Source: containerd docs/garbage-collection.md (labels and their meaning).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from rorqual.containerd.content.store import ContentStore
from rorqual.containerd.metadata.database import Database
from rorqual.containerd.metadata.records import load
from rorqual.containerd.snapshotters.tree import TreeSnapshotter

log = logging.getLogger(__name__)

ROOT_LABEL = "containerd.io/gc.root"
EXPIRE_LABEL = "containerd.io/gc.expire"
FLAT_LABEL = "containerd.io/gc.flat"
_REF = "containerd.io/gc.ref."
_SETTLE_S = 0.5  # deletes come in bursts
_INGEST_MAX_AGE_S = 24 * 3600


class Node(NamedTuple):
    """`type` as in leases' resources: "content", "snapshots/<snapshotter>", "images"."""

    type: str
    ns: str
    key: str


class Garbage(NamedTuple):
    """What a sweep removed."""

    content: int
    snapshots: int
    ingests: int


def references(ns: str, labels: Mapping[str, str]) -> list[Node]:
    """The nodes that an object's gc.ref labels point at."""
    nodes = []
    for label, value in labels.items():
        if not label.startswith(_REF):
            continue
        kind = label.removeprefix(_REF)
        for known, node_type in (("content", "content"), ("image", "images")):
            if kind == known or kind.startswith((f"{known}.", f"{known}/")):
                nodes.append(Node(node_type, ns, value))
        if kind.startswith("snapshot."):
            snapshotter = kind.removeprefix("snapshot.").partition("/")[0]
            nodes.append(Node(f"snapshots/{snapshotter}", ns, value))
    return nodes


def expired(labels: Mapping[str, str], now_s: float) -> bool:
    """Whether the object's gc.expire label lies in the past; one that cannot be read does not count."""
    text = labels.get(EXPIRE_LABEL)
    if not text:
        return False
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return False
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() <= now_s


class Graph:
    """The objects and their references, read from the database in one go."""

    def __init__(self, db: Database, now_s: float) -> None:
        self.edges: dict[Node, list[Node]] = defaultdict(list)
        self.roots: list[Node] = []
        self.flat: set[Node] = set()  # held without what they reference
        self._parents: dict[Node, Node] = {}
        self.expired_leases: list[tuple[str, str]] = []
        self.expired_images: list[tuple[str, str]] = []
        self._now_s = now_s
        self._read_content(db)
        self._read_snapshots(db)
        self._read_images(db)
        self._read_leases(db)
        for ns, labels, snapshotter, key in db.rows("SELECT ns, labels, snapshotter, snapshot_key FROM containers"):
            self.roots += references(ns, load(labels))
            if key:
                self.roots.append(Node(f"snapshots/{snapshotter}", ns, key))

    def reachable(self) -> set[Node]:
        """Everything to keep."""
        seen = set(self.roots)
        todo = list(seen)
        while todo:
            for node in self.edges.get(todo.pop(), ()):
                if node not in seen:
                    seen.add(node)
                    todo.append(node)
        for node in self.flat:
            seen.add(node)
            # no reference but part of it: a snapshot is nothing without what it stands on
            while (parent := self._parents.get(node)) is not None:
                seen.add(parent)
                node = parent
        return seen

    def _read_content(self, db: Database) -> None:
        for ns, digest, text in db.rows("SELECT ns, digest, labels FROM content"):
            self._add(Node("content", ns, digest), load(text))

    def _read_snapshots(self, db: Database) -> None:
        sql = (
            "SELECT s.ns, s.snapshotter, s.name, s.labels, p.name, s.pinned OR s.transient FROM snapshots s"
            " LEFT JOIN snapshots p ON p.id = s.parent"
        )
        for ns, snapshotter, name, text, parent, keep in db.rows(sql):
            node = Node(f"snapshots/{snapshotter}", ns, name)
            self._add(node, load(text))
            if parent is not None:
                self._parents[node] = Node(node.type, ns, parent)
                self.edges[node].append(self._parents[node])
            if keep:
                self.roots.append(node)

    def _read_images(self, db: Database) -> None:
        for ns, name, text, digest in db.rows("SELECT ns, name, labels, digest FROM images"):
            labels = load(text)
            node = Node("images", ns, name)
            self.edges[node] = [*references(ns, labels), Node("content", ns, digest)]
            if expired(labels, self._now_s):
                self.expired_images.append((ns, name))
            else:
                self.roots.append(node)

    def _read_leases(self, db: Database) -> None:
        held = defaultdict(list)
        for ns, lease, node_type, key in db.rows("SELECT ns, lease, type, id FROM lease_resources"):
            held[ns, lease].append(Node(node_type, ns, key))
        for ns, lease, text in db.rows("SELECT ns, id, labels FROM leases"):
            labels = load(text)
            if expired(labels, self._now_s):
                self.expired_leases.append((ns, lease))
            elif FLAT_LABEL in labels:
                self.flat.update(held[ns, lease])
            else:
                self.roots += [*held[ns, lease], *references(ns, labels)]

    def _add(self, node: Node, labels: Mapping[str, str]) -> None:
        if not labels:
            return
        self.edges[node] += references(node.ns, labels)
        if ROOT_LABEL in labels or (EXPIRE_LABEL in labels and not expired(labels, self._now_s)):
            self.roots.append(node)


class Collector:
    """Runs collections: some time after `schedule`, or `run` at once. `serve` is the task that its owner awaits."""

    def __init__(self, db: Database, content: ContentStore, snapshotters: Mapping[str, TreeSnapshotter]) -> None:
        self._db = db
        self._content = content
        self._snapshotters = snapshotters
        self._wanted = asyncio.Event()

    def schedule(self) -> None:
        """Something was deleted: collect soon."""
        self._wanted.set()

    async def serve(self) -> None:
        """Collect when scheduled, until cancelled."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(_SETTLE_S)
            self._wanted.clear()
            try:
                self.run()
            except Exception:
                log.exception("garbage collection failed; the next one tries again")

    def run(self) -> Garbage:
        """Collect now: when it returns the rows are gone, and the files are being removed."""
        started = time.perf_counter()
        with self._db.write():
            graph = Graph(self._db, time.time())
            for ns, lease in graph.expired_leases:
                self._db.execute("DELETE FROM leases WHERE ns = ? AND id = ?", (ns, lease))
            keep = graph.reachable()
            for ns, name in graph.expired_images:
                if Node("images", ns, name) not in keep:
                    self._db.execute("DELETE FROM images WHERE ns = ? AND name = ?", (ns, name))
            content = [
                (ns, digest)
                for ns, digest in self._db.rows("SELECT ns, digest FROM content")
                if Node("content", ns, digest) not in keep
            ]
            self._db.execute_many("DELETE FROM content WHERE ns = ? AND digest = ?", content)
            snapshots = self._sweep_snapshots(keep)
            ingests = self._sweep_ingests(keep)
        self._content.remove_unreferenced(digest for _ns, digest in content)
        self._content.remove_ingest_files(ingests)
        for snapshotter, ids in snapshots.items():
            if snapshotter in self._snapshotters:
                self._snapshotters[snapshotter].remove_files(ids)
        garbage = Garbage(len(content), sum(map(len, snapshots.values())), len(ingests))
        if any(garbage):
            log.info("garbage collection: %s in %.1f ms", garbage, (time.perf_counter() - started) * 1e3)
        return garbage

    def _sweep_snapshots(self, keep: set[Node]) -> dict[str, list[int]]:
        removed: dict[str, list[int]] = defaultdict(list)
        rows = self._db.rows("SELECT id, snapshotter, ns, name FROM snapshots ORDER BY id DESC")
        doomed = [
            (snapshot_id, snapshotter)
            for snapshot_id, snapshotter, ns, name in rows
            if Node(f"snapshots/{snapshotter}", ns, name) not in keep
        ]
        self._db.execute("PRAGMA defer_foreign_keys=ON")  # a rebased layer may have a parent with a higher id
        for snapshot_id, snapshotter in doomed:
            self._db.execute("DELETE FROM snapshots WHERE id = ?", (snapshot_id,))
            removed[snapshotter].append(snapshot_id)
        return removed

    def _sweep_ingests(self, keep: set[Node]) -> list[int]:
        oldest_ns = time.time_ns() - _INGEST_MAX_AGE_S * 1_000_000_000
        busy = self._content.busy_ids()
        rows = self._db.rows("SELECT id, ns, ref FROM ingests WHERE updated_ns < ?", oldest_ns)
        old = [i for i, ns, ref in rows if i not in busy and Node("ingests", ns, ref) not in keep]
        self._db.execute_many("DELETE FROM ingests WHERE id = ?", [(i,) for i in old])
        return old
