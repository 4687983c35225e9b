"""The writer thread's rules."""

import asyncio
from pathlib import Path

from rorqual.daemon.store.database import Database


async def test_no_cursor_leaves_the_writer_thread(tmp_path: Path) -> None:
    # SQLite answers "API misuse" when a cursor dies in one thread while another uses its statement.
    database = Database(tmp_path / "x.db", ["CREATE TABLE t (n INTEGER)"])
    database.open()
    writes = [database.run(lambda c, n=n: c.execute("INSERT INTO t VALUES (?)", (n,))) for n in range(300)]  # type: ignore[misc]
    assert await asyncio.gather(*writes) == [None] * 300
    assert await database.run(lambda c: c.execute("SELECT sum(n) FROM t").fetchone()) == (300 * 299 // 2,)
    database.close()
