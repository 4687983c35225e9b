"""A SQLite file in WAL mode with one writer thread: callers await transactions, the event loop never waits for a disk.

A commit survives SIGKILL of the process at any moment. `durable=True` makes it survive power loss too (fsync of the
WAL, milliseconds); without it a commit costs a write to the page cache (some 50 us).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, cast

from rorqual.errdefs import DataLoss, ResourceExhausted
from rorqual.linux.ballast import Ballast

T = TypeVar("T")


class Database:
    """One file. `migrations[n]` brings the schema from version n to n+1."""

    def __init__(self, path: Path, migrations: Sequence[str]) -> None:
        self._path = path
        self._migrations = migrations
        self._connection: sqlite3.Connection | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix=path.stem)
        self._durable = False
        self._ballast = Ballast(str(path))

    def open(self) -> None:
        """Open (blocking; once, before serving). Raises: DataLoss for a file of a newer version."""
        self._writer.submit(self._open).result()

    def _open(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA cache_size=-256")  # KiB: the rows are held in memory by their owners already
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > len(self._migrations):
            raise DataLoss(f"{self._path}: schema version {version} is of a newer release")
        for number, script in enumerate(self._migrations[version:], version + 1):
            connection.executescript(f"BEGIN;{script};PRAGMA user_version={number};COMMIT;")
        self._connection = connection

    def close(self) -> None:
        """Finish what was queued and close."""
        self._writer.submit(self._close).result()
        self._writer.shutdown()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def run(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = False) -> T:
        """`work` in one transaction, in the writer thread; a cancelled caller doesn't undo it.

        Raises: ResourceExhausted when the disk is full.
        """
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._transaction, work, durable)

    def run_now(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Like run, blocking: for start-up."""
        return self._writer.submit(self._transaction, work, False).result()

    def _transaction(self, work: Callable[[sqlite3.Connection], T], durable: bool) -> T:
        connection = self._connection
        if connection is None:
            raise DataLoss(f"{self._path}: closed")
        if durable != self._durable:
            connection.execute("PRAGMA synchronous=" + ("FULL" if durable else "NORMAL"))
            self._durable = durable
        self._ballast.trim()
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException as e:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(e, sqlite3.OperationalError) and e.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise ResourceExhausted(f"{self._path}: no space left on device") from e
            raise
        if isinstance(result, sqlite3.Cursor):
            # Its end resets a statement that this thread may be using by then: it must not happen in another thread.
            return cast(T, None)
        return result
