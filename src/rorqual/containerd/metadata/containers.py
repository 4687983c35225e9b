"""Containers: records only (spec, image, snapshot, labels); what runs is a task.

A record is the wire message itself, stored encoded: reading it back for an answer costs no conversion.
"""

from __future__ import annotations

import time

from rorqual.containerd.identifiers import check_identifier, check_labels
from rorqual.containerd.metadata.database import Database
from rorqual.containerd.metadata.namespaces import Namespaces
from rorqual.containerd.metadata.records import dump
from rorqual.errdefs import AlreadyExists, InvalidArgument, NotFound
from rorqual.rpc.proto.containers_pb2 import Container

# fields that an update without a mask may change; runtime, snapshotter and key stay
_UPDATABLE = ("labels", "image", "spec", "extensions", "snapshot_key", "sandbox")


class Containers:
    """The store."""

    def __init__(self, db: Database, namespaces: Namespaces) -> None:
        self._db = db
        self._namespaces = namespaces

    def get(self, ns: str, container_id: str) -> Container:
        """Raises NotFound."""
        row = self._db.row("SELECT body FROM containers WHERE ns = ? AND id = ?", ns, container_id)
        if row is None:
            raise NotFound(f'container "{container_id}" in namespace "{ns}": not found')
        return Container.FromString(row[0])

    def all(self, ns: str) -> list[Container]:
        """All of a namespace, by id."""
        rows = self._db.rows("SELECT body FROM containers WHERE ns = ? ORDER BY id", ns)
        return [Container.FromString(body) for (body,) in rows]

    def create(self, ns: str, container: Container) -> Container:
        """The container with its times. Raises AlreadyExists, InvalidArgument."""
        check_identifier(container.id, "container.ID")
        check_labels(dict(container.labels))
        if not container.runtime.name:
            raise InvalidArgument(f'container "{container.id}": runtime name must not be empty')
        if not container.HasField("spec"):
            raise InvalidArgument(f'container "{container.id}": spec must not be empty')
        if container.snapshot_key and not container.snapshotter:
            raise InvalidArgument(f'container "{container.id}": a snapshot key needs a snapshotter')
        if self._db.row("SELECT 1 FROM containers WHERE ns = ? AND id = ?", ns, container.id):
            raise AlreadyExists(f'container "{container.id}": already exists')
        self._namespaces.ensure(ns)
        container.created_at.FromNanoseconds(time.time_ns())
        container.updated_at.CopyFrom(container.created_at)
        self._put(ns, container)
        return container

    def update(self, ns: str, container: Container, paths: list[str]) -> Container:
        """The container after the update. Raises NotFound, InvalidArgument (a field that may not change)."""
        stored = self.get(ns, container.id)
        for path in paths or _UPDATABLE:
            name, _, key = path.partition(".")
            if name not in _UPDATABLE or (key and name not in ("labels", "extensions")):
                raise InvalidArgument(f'cannot update "{path}" field on container "{container.id}"')
            if key:
                _set_key(stored, container, name, key)
            else:
                stored.ClearField(name)  # type: ignore[arg-type]  # a Literal to mypy; checked above
                stored.MergeFrom(_only(container, name))
        check_labels(dict(stored.labels))
        stored.updated_at.FromNanoseconds(time.time_ns())
        self._put(ns, stored)
        return stored

    def delete(self, ns: str, container_id: str) -> None:
        """Raises NotFound."""
        if not self._db.execute("DELETE FROM containers WHERE ns = ? AND id = ?", (ns, container_id)).rowcount:
            raise NotFound(f'container "{container_id}" in namespace "{ns}": not found')

    def _put(self, ns: str, container: Container) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO containers VALUES (?, ?, ?, ?, ?, ?)",
            (
                ns,
                container.id,
                dump(dict(container.labels)),
                container.snapshotter,
                container.snapshot_key,
                container.SerializeToString(),
            ),
        )


def _only(container: Container, field: str) -> Container:
    """A message with that one field of `container`."""
    copy = Container()
    copy.CopyFrom(container)
    for descriptor, _value in container.ListFields():
        if descriptor.name != field:
            copy.ClearField(descriptor.name)  # type: ignore[arg-type]  # a Literal to mypy
    return copy


def _set_key(stored: Container, new: Container, field: str, key: str) -> None:
    if field == "labels":
        stored.labels.pop(key, "")
        if new.labels.get(key):
            stored.labels[key] = new.labels[key]
        return
    if key in stored.extensions:
        del stored.extensions[key]
    if key in new.extensions:
        stored.extensions[key].CopyFrom(new.extensions[key])
