"""events.db: the durable journal of events, for `events --since`. Appended in the background, in groups."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from rorqual.daemon.store.database import Database

_KEPT = 100_000  # events; some 40 MB

_MIGRATIONS = (
    "CREATE TABLE events (time_ns INTEGER NOT NULL, body TEXT NOT NULL); CREATE INDEX events_time ON events (time_ns)",
)


class Journal:
    """Events by time."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _MIGRATIONS)

    def open(self) -> None:
        """Open, and drop all but the newest events."""
        self._database.open()
        self._database.run_now(
            lambda c: c.execute("DELETE FROM events WHERE rowid <= (SELECT max(rowid) FROM events) - ?", (_KEPT,))
        )

    def close(self) -> None:
        """See Database.close."""
        self._database.close()

    async def append(self, events: Sequence[tuple[int, str]]) -> None:
        """Add (time in ns, JSON body) of each."""
        await self._database.run(lambda c: c.executemany("INSERT INTO events VALUES (?, ?)", events))

    async def between(self, since_ns: int, until_ns: int) -> list[str]:
        """The bodies of since <= time <= until, oldest first."""

        def work(c: sqlite3.Connection) -> list[str]:
            sql = "SELECT body FROM events WHERE time_ns >= ? AND time_ns <= ? ORDER BY time_ns, rowid"
            return [row[0] for row in c.execute(sql, (since_ns, until_ns))]

        return await self._database.run(work)
