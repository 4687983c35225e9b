"""Namespaces: made by the first write into them, as in containerd."""

from __future__ import annotations

from rorqual.containerd.identifiers import check_identifier
from rorqual.containerd.metadata.database import Database
from rorqual.containerd.metadata.records import Labels, dump, load
from rorqual.errdefs import AlreadyExists, Conflict, NotFound

# what keeps a namespace from being deleted, and its word in the error
_CONTENTS = (("images", "images"), ("content", "blobs"), ("snapshots", "snapshots"), ("containers", "containers"))


class Namespaces:
    """The store."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known = {name for (name,) in db.rows("SELECT name FROM namespaces")}

    def ensure(self, name: str) -> None:
        """Make it if it is not there. Raises InvalidArgument for a bad name."""
        if name not in self._known:
            check_identifier(name, "namespace")
            self._db.execute("INSERT OR IGNORE INTO namespaces (name) VALUES (?)", (name,))
            self._known.add(name)

    def create(self, name: str, labels: Labels) -> None:
        """Raises AlreadyExists, InvalidArgument."""
        check_identifier(name, "namespace")
        if name in self._known:
            raise AlreadyExists(f'namespace "{name}": already exists')
        self._db.execute("INSERT INTO namespaces VALUES (?, ?)", (name, dump(labels)))
        self._known.add(name)

    def get(self, name: str) -> dict[str, str]:
        """Its labels. Raises NotFound."""
        row = self._db.row("SELECT labels FROM namespaces WHERE name = ?", name)
        if row is None:
            raise NotFound(f'namespace "{name}": not found')
        return load(row[0])

    def all(self) -> list[tuple[str, dict[str, str]]]:
        """(name, labels) of each, by name."""
        return [(name, load(labels)) for name, labels in self._db.rows("SELECT name, labels FROM namespaces")]

    def set_labels(self, name: str, labels: Labels) -> None:
        """Replace its labels. Raises NotFound."""
        self.get(name)
        self._db.execute("UPDATE namespaces SET labels = ? WHERE name = ?", (dump(labels), name))

    def delete(self, name: str) -> None:
        """Raises NotFound, and Conflict while anything is in it."""
        self.get(name)
        full = [what for table, what in _CONTENTS if self._db.row(f"SELECT 1 FROM {table} WHERE ns = ? LIMIT 1", name)]
        if full:
            raise Conflict(f'namespace "{name}" must be empty, but it still has {", ".join(full)}: failed precondition')
        with self._db.write():
            self._db.execute("DELETE FROM leases WHERE ns = ?", (name,))
            self._db.execute("DELETE FROM namespaces WHERE name = ?", (name,))
        self._known.discard(name)
