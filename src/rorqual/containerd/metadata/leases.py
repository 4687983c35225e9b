"""Leases: what they hold is safe from garbage collection while they live."""

from __future__ import annotations

import time

from rorqual.containerd.metadata.database import Database
from rorqual.containerd.metadata.namespaces import Namespaces
from rorqual.containerd.metadata.records import Labels, Lease, Resource, dump, load
from rorqual.errdefs import AlreadyExists, InvalidArgument, NotFound

_TYPES = ("content", "ingests", "images")


class Leases:
    """The store."""

    def __init__(self, db: Database, namespaces: Namespaces) -> None:
        self._db = db
        self._namespaces = namespaces

    def create(self, ns: str, lease_id: str, labels: Labels) -> Lease:
        """Raises AlreadyExists, InvalidArgument."""
        if not lease_id:
            raise InvalidArgument("lease id must not be empty")
        if self._db.row("SELECT 1 FROM leases WHERE ns = ? AND id = ?", ns, lease_id):
            raise AlreadyExists(f'lease "{lease_id}": already exists')
        self._namespaces.ensure(ns)
        lease = Lease(lease_id, labels, time.time_ns())
        self._db.execute("INSERT INTO leases VALUES (?, ?, ?, ?)", (ns, lease_id, dump(labels), lease.created_ns))
        return lease

    def all(self, ns: str) -> list[Lease]:
        """All of a namespace."""
        rows = self._db.rows("SELECT id, labels, created_ns FROM leases WHERE ns = ?", ns)
        return [Lease(lease_id, load(labels), created_ns) for lease_id, labels, created_ns in rows]

    def delete(self, ns: str, lease_id: str) -> None:
        """Raises NotFound."""
        if not self._db.execute("DELETE FROM leases WHERE ns = ? AND id = ?", (ns, lease_id)).rowcount:
            raise NotFound(f'lease "{lease_id}": not found')

    def require(self, ns: str, lease_id: str) -> None:
        """Raises NotFound."""
        if not self._db.row("SELECT 1 FROM leases WHERE ns = ? AND id = ?", ns, lease_id):
            raise NotFound(f'lease "{lease_id}": not found')

    def hold(self, ns: str, lease_id: str, resource: Resource) -> None:
        """Add a resource; twice is once. Raises NotFound (no such lease), InvalidArgument (bad type)."""
        if resource.type not in _TYPES and not resource.type.startswith("snapshots/"):
            raise InvalidArgument(f'resource type "{resource.type}" is not supported')
        self.require(ns, lease_id)
        self._db.execute(
            "INSERT OR IGNORE INTO lease_resources VALUES (?, ?, ?, ?)", (ns, lease_id, resource.type, resource.id)
        )

    def release(self, ns: str, lease_id: str, resource: Resource) -> None:
        """Drop a resource; one that is not held is no error. Raises NotFound (no such lease)."""
        self.require(ns, lease_id)
        self._db.execute(
            "DELETE FROM lease_resources WHERE ns = ? AND lease = ? AND type = ? AND id = ?",
            (ns, lease_id, resource.type, resource.id),
        )

    def resources(self, ns: str, lease_id: str) -> list[Resource]:
        """What it holds. Raises NotFound."""
        self.require(ns, lease_id)
        rows = self._db.rows("SELECT type, id FROM lease_resources WHERE ns = ? AND lease = ?", ns, lease_id)
        return [Resource(*row) for row in rows]
