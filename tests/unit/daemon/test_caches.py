"""Directories that are kept from build to build: who has them at once, what is removed and when."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from rorqual.builder.dockerfile.mounts import RunMount
from rorqual.daemon.services.build import caches
from rorqual.daemon.services.build.caches import Caches, selected
from rorqual.errdefs import InvalidArgument


def mount(id: str = "c", sharing: str = "shared") -> RunMount:
    return RunMount("cache", "/c", id=id, sharing=sharing, mode=0o700)


async def test_shared_ones_are_one_and_private_ones_are_not(tmp_path: Path) -> None:
    kept = Caches(tmp_path)
    async with kept.using(mount()) as one, kept.using(mount()) as other:
        assert one == other and os.stat(one).st_mode & 0o777 == 0o700
    async with kept.using(mount("p", "private")) as one:
        async with kept.using(mount("p", "private")) as other:
            assert one != other
        async with kept.using(mount("p", "private")) as again:
            assert again == other
    async with kept.using(mount("p", "private")) as first:
        assert first == one


async def test_locked_ones_wait(tmp_path: Path) -> None:
    kept, order = Caches(tmp_path), []

    async def use(number: int) -> None:
        async with kept.using(mount("l", "locked")):
            order.append(number)
            await asyncio.sleep(0.05)
            order.append(number)

    await asyncio.gather(use(1), use(2))
    assert order == [1, 1, 2, 2]


async def test_what_is_used_is_not_pruned_and_nothing_is_left_of_the_rest(tmp_path: Path) -> None:
    kept = Caches(tmp_path)
    async with kept.context("key") as path:
        Path(path, "file").write_bytes(b"x" * 5000)
    async with kept.using(mount()):
        (record,) = [one for one in await kept.records() if one.in_use]
        assert record.type == "exec.cachemount"
        (removed,) = await kept.prune()
        assert removed.type == "source.local" and removed.size >= 5000
        assert await kept.prune() == []
    await asyncio.gather(kept.prune(), kept.prune())
    assert os.listdir(tmp_path) == []


async def test_filters_select_what_is_removed(tmp_path: Path) -> None:
    kept = Caches(tmp_path)
    async with kept.context("key"), kept.using(mount()):
        pass
    (mounted,) = [one for one in await kept.records() if one.type == "exec.cachemount"]
    for text in (
        "type==other",
        "id~=^nothing",
        "shared",
        "inuse",
        "type==source.local,shared",
        "type!=source.local,inuse",
    ):
        assert await kept.prune(wanted=selected([text])) == [], text
    assert await kept.prune(wanted=selected(["type==other", f"id~=^{mounted.id[:6]},private"])) == [mounted]
    (left,) = await kept.prune(wanted=selected([]))
    assert left.type == "source.local"
    for text in ("colour==red", "id~=(", "id=x"):
        with pytest.raises(InvalidArgument, match="invalid filter"):
            selected([text])


async def test_what_is_old_goes_by_itself_when_there_is_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Caches(tmp_path)
    for name in ("old", "older", "new"):
        async with kept.context(name) as path:
            Path(path, "file").write_bytes(b"x" * 10_000)
            days = {"old": 3, "older": 4, "new": 0}[name]
        os.utime(f"{path}.used", (0, time.time() - days * 86400))
    await kept.collect()
    assert len(await kept.records()) == 3, "they are small"
    monkeypatch.setattr(caches, "_KEPT_BYTES", 25_000)
    await kept.collect()
    assert len(await kept.records()) == 2, "the oldest, until there is room"
    monkeypatch.setattr(caches, "_KEPT_BYTES", 1)
    await kept.collect()
    (left,) = await kept.records()
    assert left.last_used_at.startswith(time.strftime("%Y-%m-%d", time.gmtime())), "what was used lately stays"


async def test_what_a_killed_daemon_was_removing_goes(tmp_path: Path) -> None:
    kept = Caches(tmp_path)
    async with kept.using(mount()) as path:
        pass
    os.rename(path, f"{path}.removed")
    assert await kept.records() == []
    kept.sweep()
    assert os.listdir(tmp_path) == []
