"""etcd's process: started once, found again, ended however far it has come."""

import asyncio
import os
import shutil
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.processes import wait_for

from rorqual.errdefs import Unavailable
from rorqual.swarm.store.client import Etcd
from rorqual.swarm.store.process import EtcdProcess

needs_etcd = pytest.mark.skipif(not shutil.which("etcd"), reason="etcd is not installed")


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def alive(directory: Path) -> Callable[[], bool]:
    """Whether the process that wrote its pid there is."""

    def look() -> bool:
        with suppress(OSError, ValueError):
            return os.path.samefile(f"/proc/{int((directory / 'pid').read_text())}/cwd", directory)
        return False

    return look


def test_it_is_named_when_it_is_not_installed(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(Unavailable, match="apt-get install etcd-server"):
            await EtcdProcess(tmp_path / "etcd", binary="no-such-etcd").ensure()
        assert not (tmp_path / "etcd").exists()

    run(test())


def test_one_that_ends_at_once_is_told_with_its_log(tmp_path: Path) -> None:
    async def test() -> None:
        etcd = EtcdProcess(tmp_path / "etcd", binary=program(tmp_path / "bad", "echo damaged >&2; exit 1"))
        with pytest.raises(Unavailable, match=r"ended before it answered: see .*/etcd/log"):
            await etcd.ensure()
        assert (tmp_path / "etcd/log").read_text() == "damaged\n"

    run(test())


def test_one_that_is_starting_is_ended_by_stop_and_not_started_twice(tmp_path: Path) -> None:
    async def test() -> None:
        slow = program(tmp_path / "slow", "echo $$ >> starts; sleep 1000 & wait")
        directory, etcd = tmp_path / "etcd", EtcdProcess(tmp_path / "etcd", binary=slow)
        for one in (etcd, EtcdProcess(directory, binary=slow)):  # the second as of a daemon that comes after a kill
            start = asyncio.create_task(one.ensure())
            await asyncio.to_thread(wait_for, alive(directory), "it is there")
            await asyncio.to_thread(wait_for, (directory / "starts").exists, "it runs")
            await asyncio.sleep(0.1)
            start.cancel()
            with suppress(asyncio.CancelledError):
                await start
        assert len((directory / "starts").read_text().split()) == 1
        await one.stop()
        assert not alive(directory)()
        await etcd.stop()
        await one.stop()

    run(test())


@needs_etcd
def test_a_successor_takes_over_what_runs(tmp_path: Path) -> None:
    async def test() -> None:
        first, second = EtcdProcess(tmp_path / "etcd"), EtcdProcess(tmp_path / "etcd")
        first.name = second.name = "one"
        await first.ensure()
        pid = (tmp_path / "etcd/pid").read_text()
        await second.ensure()
        assert (tmp_path / "etcd/pid").read_text() == pid
        client = Etcd(second.address)
        try:
            revision = await client.commit({b"/a": b"1"}, [], {b"/a": 0})
            assert revision and await client.commit({b"/a": b"2"}, [], {b"/a": 0}) is None
            entries, _ = await client.load(b"/")
            assert [(entry.key, entry.value, entry.revision) for entry in entries] == [(b"/a", b"1", revision)]
            await client.commit({b"/b": b"2"}, [b"/a"], {b"/a": revision})
            async for changes in client.watch(b"/", revision + 1):
                assert {(entry.key, entry.value) for entry in changes} == {(b"/a", None), (b"/b", b"2")}
                break
            await second.stop()
            assert not alive(tmp_path / "etcd")()
            await first.stop()
            await first.ensure()
            entries, _ = await client.load(b"/")
            assert [(entry.key, entry.value) for entry in entries] == [(b"/b", b"2")]
        finally:
            client.close()
            await first.stop()
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "etcd").iterdir()}
        assert (tmp_path / "etcd").stat().st_mode & 0o777 == 0o700, modes

    run(test())
