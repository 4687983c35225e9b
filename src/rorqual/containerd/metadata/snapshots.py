"""The tree of snapshots: names, parents, kinds, usage. The directories are the snapshotters' business."""

from __future__ import annotations

import json
import time
from typing import Any

from rorqual.containerd.metadata.database import Database
from rorqual.containerd.metadata.namespaces import Namespaces
from rorqual.containerd.metadata.records import Kind, Labels, Pending, Snapshot, Usage, dump, load, masked_labels
from rorqual.errdefs import AlreadyExists, Conflict, InvalidArgument, NotFound

_SELECT = (
    "SELECT s.id, s.name, ifnull(p.name, ''), s.parent, s.kind, s.labels, s.created_ns, s.updated_ns"
    " FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent"
)
_CHAIN = (
    "WITH RECURSIVE chain (id, parent, depth) AS (SELECT id, parent, 0 FROM snapshots WHERE id = ?"
    " UNION ALL SELECT s.id, s.parent, depth + 1 FROM snapshots s JOIN chain ON s.id = chain.parent)"
    " SELECT id FROM chain ORDER BY depth"
)


class SnapshotTable:
    """The snapshots of one snapshotter."""

    def __init__(self, db: Database, namespaces: Namespaces, snapshotter: str, boot_id: str = "") -> None:
        """`boot_id`: of the machine, to tell committed files that may be in memory only (snapshotters.stable)."""
        self._db = db
        self._namespaces = namespaces
        self.snapshotter = snapshotter
        self._boot_id = boot_id

    def get(self, ns: str, name: str) -> Snapshot:
        """Raises NotFound."""
        row = self._db.row(_SELECT + " WHERE s.snapshotter = ? AND s.ns = ? AND s.name = ?", self.snapshotter, ns, name)
        if row is None:
            raise NotFound(f"snapshot {name} does not exist: not found")
        return _snapshot(row)

    def exists(self, ns: str, name: str) -> bool:
        """Whether that name is taken."""
        sql = "SELECT 1 FROM snapshots WHERE snapshotter = ? AND ns = ? AND name = ?"
        return self._db.row(sql, self.snapshotter, ns, name) is not None

    def all(self, ns: str) -> list[Snapshot]:
        """All of a namespace, oldest first."""
        rows = self._db.rows(_SELECT + " WHERE s.snapshotter = ? AND s.ns = ? ORDER BY s.id", self.snapshotter, ns)
        return [_snapshot(row) for row in rows]

    def committed(self, ns: str, name: str) -> Snapshot:
        """The parent-to-be. Raises NotFound, InvalidArgument unless it is committed."""
        parent = self.get(ns, name)
        if parent.kind is not Kind.COMMITTED:
            raise InvalidArgument(f"parent {name} is not a committed snapshot: invalid argument")
        return parent

    def add(
        self,
        snapshot_id: int,
        ns: str,
        key: str,
        parent_id: int | None,
        kind: Kind,
        labels: Labels,
        *,
        pinned: bool,
        transient: bool,
    ) -> None:
        """Record a new active or view. Raises AlreadyExists."""
        if self.exists(ns, key):
            raise AlreadyExists(f"snapshot {key}: already exists")
        self._namespaces.ensure(ns)
        now = time.time_ns()
        self._db.execute(
            "INSERT INTO snapshots (id, snapshotter, ns, name, parent, kind, labels, created_ns, updated_ns, pinned,"
            " transient) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (snapshot_id, self.snapshotter, ns, key, parent_id, kind, dump(labels), now, now, pinned, transient),
        )

    def commit(self, ns: str, name: str, key: str, parent_id: int | None, labels: Labels, usage: Usage) -> None:
        """Make an active snapshot a committed one. Raises NotFound, AlreadyExists, Conflict (not active)."""
        snapshot = self.get(ns, key)
        if snapshot.kind is not Kind.ACTIVE:
            raise Conflict(f"snapshot {key} is not active: failed precondition")
        if self.exists(ns, name):
            raise AlreadyExists(f"snapshot {name}: already exists")
        self._db.execute(
            "UPDATE snapshots SET name = ?, kind = ?, parent = ?, labels = ?, updated_ns = ?, size = ?, inodes = ?,"
            " transient = 0, unsynced = ? WHERE id = ?",
            (
                name,
                Kind.COMMITTED,
                parent_id,
                dump(labels),
                time.time_ns(),
                usage.size,
                usage.inodes,
                self._boot_id,
                snapshot.id,
            ),
        )

    def unpacked(self, ns: str, key: str, usage: Usage, pending: Pending) -> None:
        """An ingest worker has finished it: it stays; its usage and what is pending are known at the commit."""
        document: object = pending.directories
        if pending.links:
            document = {"directories": pending.directories, "links": pending.links}
        self._db.execute(
            "UPDATE snapshots SET transient = 0, size = ?, inodes = ?, implied = ?"
            " WHERE snapshotter = ? AND ns = ? AND name = ?",
            (usage.size, usage.inodes, json.dumps(document), self.snapshotter, ns, key),
        )

    def pending(self, snapshot_id: int) -> Pending:
        """What is to be done once the layer's parent is known."""
        row = self._db.row("SELECT implied FROM snapshots WHERE id = ?", snapshot_id)
        document = json.loads(row[0]) if row else []
        if isinstance(document, list):
            return Pending(tuple(document))
        return Pending(tuple(document["directories"]), tuple((name, target) for name, target in document["links"]))

    def remove(self, ns: str, name: str) -> Snapshot:
        """Raises NotFound, Conflict while it has children."""
        snapshot = self.get(ns, name)
        if self._db.row("SELECT 1 FROM snapshots WHERE parent = ? LIMIT 1", snapshot.id):
            raise Conflict(f"cannot remove snapshot {name} with child: failed precondition")
        self._db.execute("DELETE FROM snapshots WHERE id = ?", (snapshot.id,))
        return snapshot

    def update(self, ns: str, name: str, labels: Labels, paths: list[str]) -> Snapshot:
        """The snapshot after the update of its labels; no `paths`: all. Raises NotFound, InvalidArgument."""
        old = self.get(ns, name)
        for path in paths:
            if path != "labels" and not path.startswith("labels."):
                raise InvalidArgument(f'cannot update "{path}" field on snapshot "{name}"')
        merged = masked_labels(old.labels, labels, paths or ["labels"])
        self._db.execute(
            "UPDATE snapshots SET labels = ?, updated_ns = ? WHERE id = ?", (dump(merged), time.time_ns(), old.id)
        )
        return self.get(ns, name)

    def chain(self, snapshot_id: int) -> list[int]:
        """The ids from a snapshot (itself first) down to its base."""
        return [i for (i,) in self._db.rows(_CHAIN, snapshot_id)]

    def usage(self, snapshot_id: int) -> Usage:
        """The recorded usage; zeros while it was not measured."""
        row = self._db.row("SELECT size, inodes FROM snapshots WHERE id = ?", snapshot_id)
        return Usage(*row) if row else Usage(0, 0)

    def ids(self) -> set[int]:
        """Of all namespaces."""
        return {i for (i,) in self._db.rows("SELECT id FROM snapshots WHERE snapshotter = ?", self.snapshotter)}

    def drop_transient(self) -> int:
        """Forget the snapshots whose worker died with the last containerd; how many."""
        sql = "DELETE FROM snapshots WHERE snapshotter = ? AND transient = 1"
        return self._db.execute(sql, (self.snapshotter,)).rowcount

    def last_id(self) -> int:
        """The highest id in use by any snapshotter; 0 for none."""
        row = self._db.row("SELECT ifnull(max(id), 0) FROM snapshots")
        return row[0] if row else 0


def _snapshot(row: tuple[Any, ...]) -> Snapshot:
    snapshot_id, name, parent, parent_id, kind, labels, created_ns, updated_ns = row
    return Snapshot(snapshot_id, name, parent, parent_id, Kind(kind), load(labels), created_ns, updated_ns)
