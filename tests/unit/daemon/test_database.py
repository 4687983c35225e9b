"""The writer thread's rules."""

import asyncio
import sqlite3
from pathlib import Path

from rorqual.daemon.store import daemondb
from rorqual.daemon.store.daemondb import DaemonDB, ExecRow
from rorqual.daemon.store.database import Database


async def test_no_cursor_leaves_the_writer_thread(tmp_path: Path) -> None:
    # SQLite answers "API misuse" when a cursor dies in one thread while another uses its statement.
    database = Database(tmp_path / "x.db", ["CREATE TABLE t (n INTEGER)"])
    database.open()
    writes = [database.run(lambda c, n=n: c.execute("INSERT INTO t VALUES (?)", (n,))) for n in range(300)]  # type: ignore[misc]
    assert await asyncio.gather(*writes) == [None] * 300
    assert await database.run(lambda c: c.execute("SELECT sum(n) FROM t").fetchone()) == (300 * 299 // 2,)
    database.close()


async def test_a_file_of_the_first_release_is_brought_up_to_date(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "daemon.db") as first:
        first.executescript(f"{daemondb._MIGRATIONS[0]}; PRAGMA user_version=1")
        first.execute("INSERT INTO containers VALUES ('id', 'name', '{}', '{}')")
    database = DaemonDB(tmp_path / "daemon.db")
    database.open()
    assert [row.name for row in database.load_containers()] == ["name"]
    await database.put_exec(ExecRow("id", "exec", "{}"))
    assert database.load_execs() == [ExecRow("id", "exec", "{}")]
    database.close()


async def test_an_exec_is_stored_with_its_container_only(tmp_path: Path) -> None:
    database = DaemonDB(tmp_path / "daemon.db")
    database.open()
    row = daemondb.ContainerRow("id", "name", "{}", "{}")
    await database.insert_container(row, durable=False)
    for exec_id in ("one", "two", "one"):
        await database.put_exec(ExecRow("id", exec_id, "{}"))
    await database.put_exec(ExecRow("gone", "three", "{}"))
    assert [found.id for found in database.load_execs()] == ["one", "two"]
    await database.delete_execs("id", ["one"])
    assert [found.id for found in database.load_execs()] == ["two"]
    await database.delete_container("id", daemondb.Leftover("id", "id"), durable=False)
    assert database.load_execs() == []
    database.close()
