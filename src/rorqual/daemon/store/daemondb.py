"""daemon.db: containers (with their state), execs and volumes.

A container is a name, a document of what never changes after create, and a document of its state: a state change
rewrites the short one only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rorqual.daemon.store.database import Database
from rorqual.errdefs import Conflict

_MIGRATIONS = (
    """
    CREATE TABLE containers (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, document TEXT NOT NULL,
                             state TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE volumes (name TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE leftovers (snapshot TEXT PRIMARY KEY, container TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE execs (container TEXT NOT NULL, id TEXT NOT NULL, document TEXT NOT NULL,
                        PRIMARY KEY (container, id)) WITHOUT ROWID;
    """,
)


@dataclass(frozen=True, slots=True)
class ContainerRow:
    """A stored container; the documents are JSON, their form is services.containers.record's."""

    id: str
    name: str
    document: str
    state: str


@dataclass(frozen=True, slots=True)
class ExecRow:
    """A stored exec; the document is JSON, its form is services.containers.record's."""

    container: str
    id: str
    document: str


@dataclass(frozen=True, slots=True)
class Leftover:
    """A removed container whose snapshot and files are still to be deleted."""

    snapshot: str
    container: str


class DaemonDB:
    """daemon.db under the data root."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _MIGRATIONS)

    def open(self) -> None:
        """See Database.open."""
        self._database.open()

    def close(self) -> None:
        """See Database.close."""
        self._database.close()

    def load_containers(self) -> list[ContainerRow]:
        """All of them, at start-up."""
        return self._database.run_now(
            lambda c: [ContainerRow(*r) for r in c.execute("SELECT id, name, document, state FROM containers")]
        )

    def load_leftovers(self) -> list[Leftover]:
        """What an interrupted removal left to do."""
        return self._database.run_now(
            lambda c: [Leftover(*r) for r in c.execute("SELECT snapshot, container FROM leftovers")]
        )

    async def insert_container(self, row: ContainerRow, *, durable: bool) -> None:
        """Add. Raises: Conflict for a taken name."""

        def work(c: sqlite3.Connection) -> None:
            try:
                c.execute("INSERT INTO containers VALUES (?, ?, ?, ?)", (row.id, row.name, row.document, row.state))
            except sqlite3.IntegrityError as e:
                raise Conflict(f'The container name "/{row.name}" is already in use') from e

        await self._database.run(work, durable=durable)

    async def update_state(self, id: str, state: str) -> None:
        """Replace the state document."""
        await self._database.run(lambda c: c.execute("UPDATE containers SET state=? WHERE id=?", (state, id)))

    async def update_document(self, row: ContainerRow) -> None:
        """Replace name and document: rename, update, connect."""
        values = (row.name, row.document, row.state, row.id)
        sql = "UPDATE containers SET name=?, document=?, state=? WHERE id=?"
        await self._database.run(lambda c: c.execute(sql, values), durable=True)

    async def delete_container(self, id: str, leftover: Leftover, *, durable: bool) -> None:
        """Remove the row and note what is still to be deleted, in one transaction."""

        def work(c: sqlite3.Connection) -> None:
            c.execute("DELETE FROM containers WHERE id=?", (id,))
            c.execute("DELETE FROM execs WHERE container=?", (id,))
            c.execute("INSERT OR REPLACE INTO leftovers VALUES (?, ?)", (leftover.snapshot, leftover.container))

        await self._database.run(work, durable=durable)

    def load_execs(self) -> list[ExecRow]:
        """All of them, at start-up."""
        return self._database.run_now(
            lambda c: [ExecRow(*r) for r in c.execute("SELECT container, id, document FROM execs")]
        )

    async def put_exec(self, row: ExecRow) -> None:
        """Add or replace, if its container is there."""
        # The end of an exec may be written after its container was removed.
        sql = "INSERT OR REPLACE INTO execs SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM containers WHERE id=?1)"
        await self._database.run(lambda c: c.execute(sql, (row.container, row.id, row.document)))

    async def delete_execs(self, container: str, ids: Iterable[str]) -> None:
        """Remove."""
        rows = [(container, id) for id in ids]
        await self._database.run(lambda c: c.executemany("DELETE FROM execs WHERE container=? AND id=?", rows))

    async def delete_leftovers(self, snapshots: Iterable[str]) -> None:
        """They are deleted."""
        rows = [(s,) for s in snapshots]
        await self._database.run(lambda c: c.executemany("DELETE FROM leftovers WHERE snapshot=?", rows))

    def load_volumes(self) -> list[tuple[str, str]]:
        """(name, document) of each volume."""
        return self._database.run_now(lambda c: list(c.execute("SELECT name, document FROM volumes")))

    async def put_volume(self, name: str, document: str) -> None:
        """Add or replace; on disk when this returns."""
        sql = "INSERT OR REPLACE INTO volumes VALUES (?, ?)"
        await self._database.run(lambda c: c.execute(sql, (name, document)), durable=True)

    async def delete_volume(self, name: str) -> None:
        """Remove."""
        await self._database.run(lambda c: c.execute("DELETE FROM volumes WHERE name=?", (name,)), durable=True)

    def fact(self, key: str, make: str) -> str:
        """The stored value of `key`, stored as `make` the first time (the engine's ID)."""

        def work(c: sqlite3.Connection) -> str:
            c.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (key, make))
            return str(c.execute("SELECT value FROM facts WHERE key=?", (key,)).fetchone()[0])

        return self._database.run_now(work)
