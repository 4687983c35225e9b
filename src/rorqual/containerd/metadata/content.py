"""What each namespace knows of blobs and of writes under way. The bytes are in rorqual.containerd.content.

Blobs are shared: a namespace that names a digest already on disk gets it without sending it (containerd's "shared"
policy).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from rorqual.containerd.metadata.database import Database
from rorqual.containerd.metadata.namespaces import Namespaces
from rorqual.containerd.metadata.records import ContentInfo, Labels, dump, load, masked_labels
from rorqual.errdefs import AlreadyExists, InvalidArgument, NotFound

_INFO = "digest, size, labels, created_ns, updated_ns"


@dataclass(frozen=True, slots=True)
class Ingest:
    """A write under way, its bytes in content/ingest/<id>. `total` 0 and `expected` "": unknown."""

    id: int
    ref: str
    expected: str
    total: int
    started_ns: int
    updated_ns: int


class ContentTable:
    """Blobs' and ingests' rows."""

    def __init__(self, db: Database, namespaces: Namespaces) -> None:
        self._db = db
        self._namespaces = namespaces

    def get(self, ns: str, digest: str) -> ContentInfo:
        """Raises NotFound."""
        row = self._db.row(f"SELECT {_INFO} FROM content WHERE ns = ? AND digest = ?", ns, digest)
        if row is None:
            raise NotFound(f"content digest {digest}: not found")
        return _info(row)

    def find(self, ns: str, digest: str) -> ContentInfo | None:
        """Like get, with None for NotFound."""
        row = self._db.row(f"SELECT {_INFO} FROM content WHERE ns = ? AND digest = ?", ns, digest)
        return _info(row) if row else None

    def all(self, ns: str) -> list[ContentInfo]:
        """All of a namespace, by digest."""
        return [_info(row) for row in self._db.rows(f"SELECT {_INFO} FROM content WHERE ns = ?", ns)]

    def size_elsewhere(self, digest: str) -> int | None:
        """The size of a blob that any namespace has; None when none does."""
        row = self._db.row("SELECT size FROM content WHERE digest = ? LIMIT 1", digest)
        return row[0] if row else None

    def add(self, ns: str, digest: str, size: int, labels: Labels) -> ContentInfo:
        """Raises AlreadyExists."""
        if self.find(ns, digest):
            raise AlreadyExists(f"content {digest}: already exists")
        self._namespaces.ensure(ns)
        now = time.time_ns()
        self._db.execute("INSERT INTO content VALUES (?, ?, ?, ?, ?, ?)", (ns, digest, size, dump(labels), now, now))
        return ContentInfo(digest, size, labels, now, now)

    def update(self, ns: str, digest: str, labels: Labels, paths: list[str]) -> ContentInfo:
        """The info after the update; no `paths`: all labels. Raises NotFound, InvalidArgument."""
        old = self.get(ns, digest)
        for path in paths:
            if path != "labels" and not path.startswith("labels."):
                raise InvalidArgument(f'cannot update "{path}" field on content info "{digest}"')
        merged = masked_labels(old.labels, labels, paths or ["labels"])
        now = time.time_ns()
        self._db.execute(
            "UPDATE content SET labels = ?, updated_ns = ? WHERE ns = ? AND digest = ?", (dump(merged), now, ns, digest)
        )
        return ContentInfo(digest, old.size, merged, old.created_ns, now)

    def remove(self, ns: str, digest: str) -> bool:
        """Whether the blob itself may go: no namespace knows it any more. Raises NotFound."""
        if not self._db.execute("DELETE FROM content WHERE ns = ? AND digest = ?", (ns, digest)).rowcount:
            raise NotFound(f"content digest {digest}: not found")
        return self.size_elsewhere(digest) is None

    def digests(self) -> set[str]:
        """Of all namespaces."""
        return {digest for (digest,) in self._db.rows("SELECT DISTINCT digest FROM content")}

    # ---- ingests ----

    def ingest(self, ns: str, ref: str) -> Ingest | None:
        """The write under way of that ref."""
        row = self._db.row(
            "SELECT id, ref, expected, total, started_ns, updated_ns FROM ingests WHERE ns = ? AND ref = ?", ns, ref
        )
        return Ingest(*row) if row else None

    def ingests(self, ns: str) -> list[Ingest]:
        """All of a namespace."""
        rows = self._db.rows("SELECT id, ref, expected, total, started_ns, updated_ns FROM ingests WHERE ns = ?", ns)
        return [Ingest(*row) for row in rows]

    def begin(self, ns: str, ref: str, expected: str, total: int) -> Ingest:
        """A new one, or the one there, its expectation brought up to date."""
        self._namespaces.ensure(ns)
        now = time.time_ns()
        with self._db.write():
            self._db.execute(
                "INSERT INTO ingests (ns, ref, expected, total, started_ns, updated_ns) VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (ns, ref) DO UPDATE SET updated_ns = excluded.updated_ns,"
                " expected = iif(excluded.expected != '', excluded.expected, expected),"
                " total = iif(excluded.total != 0, excluded.total, total)",
                (ns, ref, expected, total, now, now),
            )
            row = self.ingest(ns, ref)
        assert row is not None
        return row

    def expect(self, ns: str, ref: str, expected: str, total: int) -> None:
        """Record what a later request of the writer says."""
        self._db.execute(
            "UPDATE ingests SET expected = ?, total = ? WHERE ns = ? AND ref = ?", (expected, total, ns, ref)
        )

    def end(self, ns: str, ref: str) -> Ingest:
        """Forget it; its file is the caller's. Raises NotFound."""
        ingest = self.ingest(ns, ref)
        if ingest is None:
            raise NotFound(f"ingest ref {ref}: not found")
        self._db.execute("DELETE FROM ingests WHERE id = ?", (ingest.id,))
        return ingest

    def ingest_ids(self) -> set[int]:
        """Of all namespaces."""
        return {i for (i,) in self._db.rows("SELECT id FROM ingests")}


def _info(row: tuple[Any, ...]) -> ContentInfo:
    digest, size, labels, created_ns, updated_ns = row
    return ContentInfo(digest, size, load(labels), created_ns, updated_ns)
