"""The one SQLite database (WAL) and its one connection, used from the event loop's thread only.

A short transaction in the loop costs 30-60 us here, a hop to a thread and back 100: so statements run in the loop, and
what may wait for the disk does not. Commits are written, not synchronised (synchronous=NORMAL): they survive SIGKILL of
every process. What must survive power loss too (names, images, blobs) awaits `durable()`: one fdatasync of the log in
a thread, shared by all who wait. Checkpoints run in a thread on a connection of their own.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rorqual.containerd.metadata.schema import MIGRATIONS
from rorqual.errdefs import Internal, ResourceExhausted
from rorqual.linux.ballast import Ballast

_COMMITS_PER_CHECKPOINT = 1000


class Database:
    """An open database; `close` when done. Every method but `durable` returns without waiting for the disk."""

    def __init__(self, path: Path) -> None:
        """Open or make it, and bring its schema up to date. Raises Internal for one of a newer version."""
        self._path = path
        self._connection = sqlite3.connect(path, isolation_level=None, cached_statements=256)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.execute("PRAGMA wal_autocheckpoint=0")
        self._connection.execute("PRAGMA foreign_keys=ON")
        self._connection.execute("PRAGMA cache_size=-2000")
        self._migrate()
        self._wal = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        self._ballast = Ballast(str(path))
        self._depth = 0
        self._commits = 0
        self._sync: asyncio.Task[None] | None = None
        self._next_sync: asyncio.Task[None] | None = None
        self._checkpoint: asyncio.Future[None] | None = None

    @contextmanager
    def write(self) -> Iterator[None]:
        """A transaction; all or nothing. Nested uses join the outermost. Never await inside.

        Raises ResourceExhausted when the disk is full.
        """
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        self._ballast.trim()
        self._depth = 1
        try:
            self.execute("BEGIN IMMEDIATE")
            yield
            self.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self.execute("ROLLBACK")
            raise
        finally:
            self._depth = 0
        self._count_commit()

    def execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """One statement. Raises ResourceExhausted when the disk is full."""
        try:
            return self._connection.execute(sql, values)
        except sqlite3.OperationalError as e:
            raise self._explained(e) from e

    def execute_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> sqlite3.Cursor:
        """One statement for each row. Raises ResourceExhausted when the disk is full."""
        try:
            return self._connection.executemany(sql, rows)
        except sqlite3.OperationalError as e:
            raise self._explained(e) from e

    def _explained(self, error: sqlite3.OperationalError) -> Exception:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            return ResourceExhausted(f"{self._path}: no space left on device")
        return error

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self.execute(sql, values).fetchall()

    def row(self, sql: str, *values: Any) -> tuple[Any, ...] | None:
        """The first row of a query, or None."""
        found: tuple[Any, ...] | None = self.execute(sql, values).fetchone()
        return found

    async def durable(self) -> None:
        """Return once everything committed before the call would survive power loss."""
        if self._sync is None or self._sync.done():
            self._sync = asyncio.create_task(self._fsync(None))
            await asyncio.shield(self._sync)
            return
        if self._next_sync is None or self._next_sync.done():
            # the one under way may have begun before our commit: share the next
            self._next_sync = asyncio.create_task(self._fsync(self._sync))
        await asyncio.shield(self._next_sync)

    async def _fsync(self, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await asyncio.wait([after])
            self._sync, self._next_sync = self._next_sync, None
        await asyncio.to_thread(os.fdatasync, self._wal)

    def close(self) -> None:
        """Close it; the log is folded into the database file."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
        os.close(self._wal)

    def _count_commit(self) -> None:
        self._commits += 1
        if self._commits < _COMMITS_PER_CHECKPOINT or (self._checkpoint is not None and not self._checkpoint.done()):
            return
        self._commits = 0
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            _checkpoint(self._path)
            return
        self._checkpoint = loop.run_in_executor(None, _checkpoint, self._path)

    def _migrate(self) -> None:
        version: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise Internal(f"{self._path}: schema version {version} is newer than this program's {len(MIGRATIONS)}")
        for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
            self._connection.executescript(f"BEGIN;{script};PRAGMA user_version={number};COMMIT")


def _checkpoint(path: Path) -> None:
    """Fold the log into the database; PASSIVE: it never makes a writer wait."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    finally:
        connection.close()
