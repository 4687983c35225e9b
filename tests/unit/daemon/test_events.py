"""The journal and the stream of events: what was published is there, in order, once, for any reader."""

import asyncio
import errno
import json
import os
from pathlib import Path

import pytest

from rorqual.daemon.services import clock
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.filters import Filters
from rorqual.daemon.store.journal import Journal

NONE = Filters()


def opened(path: Path, **options: int) -> Journal:
    journal = Journal(path / "events", **options)
    journal.open()
    return journal


def begun(journal: Journal) -> Events:
    events = Events(journal)
    events.start()
    return events


def publish(events: Events, count: int, first: int = 0) -> None:
    for n in range(first, first + count):
        events.publish("container", "start", f"{n:064x}", {"name": f"c{n}"})


async def names(events: Events, since: int | None, until: int | None, filters: Filters = NONE) -> list[str]:
    return [e.actor.attributes["name"] async for e in events.stream(since, until, filters)]


def test_the_journal_gives_what_was_added_after_a_time(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    for n in range(1, 101):
        journal.append(n * 10, b'{"n": %d}' % n)
    assert [json.loads(b)["n"] for b in journal.after(950, 100)] == [96, 97, 98, 99, 100]
    assert [json.loads(b)["n"] for b in journal.after(0, 3)] == [1, 2, 3]
    assert journal.after(1000, 5) == []
    assert [json.loads(b)["n"] for b in journal.last(2)] == [99, 100]
    journal.close()


def test_the_journal_is_bounded_and_drops_the_oldest(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=1000, segments=4)
    for n in range(1, 1001):
        journal.append(n, b"x" * 80)
    files = list((tmp_path / "events").iterdir())
    assert len(files) == 4 and sum(f.stat().st_size for f in files) < 4 * 1200
    kept = journal.after(0, 5000)
    assert 30 < len(kept) < 50
    journal.close()


def test_a_large_segment_is_searched_for_the_time(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=10 << 20)
    for n in range(1, 20_001):
        journal.append(n, b"%05d" % n + b"x" * 95)
    for at in (0, 1, 777, 10_000, 19_998, 19_999):
        assert journal.after(at, 1)[0][:5] == b"%05d" % (at + 1)
    assert journal.after(20_000, 1) == []
    journal.close()


def test_a_line_torn_by_a_power_cut_is_passed_over(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append(1, b'{"n": 1}')
    journal.close()
    (segment,) = (tmp_path / "events").iterdir()
    with segment.open("ab") as file:
        file.write(b"0000000000000000")
    journal = opened(tmp_path)
    journal.append(2, b'{"n": 2}')
    assert [json.loads(b)["n"] for b in journal.after(0, 5)] == [1, 2]
    journal.close()


async def test_what_is_published_survives_at_once_and_times_go_on(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    first = begun(journal)
    publish(first, 3)
    # no stop, no close: as after a SIGKILL
    other = opened(tmp_path)
    second = begun(other)
    publish(second, 1, first=3)
    assert await names(second, 0, clock.now_ns()) == ["c0", "c1", "c2", "c3"]
    journal.close()
    other.close()


async def test_until_alone_means_everything_before_it(tmp_path: Path) -> None:
    events = begun(opened(tmp_path))
    publish(events, 2)
    assert await names(events, None, clock.now_ns()) == ["c0", "c1"]


async def test_since_the_last_time_gives_the_next_event_only(tmp_path: Path) -> None:
    events = begun(opened(tmp_path))
    publish(events, 2)
    seen = [e async for e in events.stream(0, clock.now_ns(), NONE)]
    publish(events, 1, first=2)
    assert await names(events, seen[-1].time_nano + 1, clock.now_ns()) == ["c2"]


async def test_a_slow_reader_loses_nothing(tmp_path: Path) -> None:
    events = begun(opened(tmp_path))
    stream = events.stream(None, None, NONE)
    first = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    publish(events, 5000)  # five times what is held in memory
    got = [(await first).actor.attributes["name"]]
    got += [(await anext(stream)).actor.attributes["name"] for _ in range(4999)]
    assert got == [f"c{n}" for n in range(5000)]
    publish(events, 1, first=5000)
    assert (await anext(stream)).actor.attributes["name"] == "c5000"
    await stream.aclose()
    assert events.listeners == 0


async def test_a_stream_ends_at_until_and_at_stop(tmp_path: Path) -> None:
    events = begun(opened(tmp_path))
    async with asyncio.timeout(5):
        assert await names(events, None, clock.now_ns() + 50_000_000) == []
        waiting = asyncio.ensure_future(names(events, None, None))
        await asyncio.sleep(0)
        await events.stop()
        assert await waiting == []


async def test_a_full_disk_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Full:
        def append(self, time_ns: int, body: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def after(self, time_ns: int, limit: int) -> list[bytes]:
            return []

        def last(self, count: int) -> list[bytes]:
            return []

    events = Events(Full())
    events.start()
    publish(events, 3)
    assert await names(events, 0, clock.now_ns()) == ["c0", "c1", "c2"]
    assert caplog.text.count("journal cannot be written") == 1


def test_what_the_last_run_told_is_known_once(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    first = begun(journal)
    first.publish("container", "health_status: healthy", "a" * 64, {"name": "a"})
    journal.close()
    second = begun(opened(tmp_path))
    told = second.told("a" * 64, "health_status", 0)
    assert told is not None and told.action == "health_status: healthy"
    assert second.told("a" * 64, "health_status", 0) is None
    second.publish("container", "die", "b" * 64, {"name": "b"})
    assert second.told("b" * 64, "die", 0) is None


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"container": ("web",)}, ["web-1"]),
        ({"container": ("ab",)}, ["web-1"]),
        ({"type": ("network",)}, ["net"]),
        ({"event": ("health_status",)}, ["web-1"]),
        ({"event": ("health_status: healthy",)}, []),
        ({"label": ("tier=front",)}, ["web-1"]),
        ({"label": ("tier=back",)}, []),
        ({"image": ("busybox",)}, ["web-1"]),
        ({"type": ("container", "network")}, ["web-1", "net"]),
        ({"scope": ("swarm",)}, []),
    ],
)
async def test_filters(tmp_path: Path, filters: dict[str, tuple[str, ...]], expected: list[str]) -> None:
    events = begun(opened(tmp_path))
    attributes = {"name": "web-1", "image": "busybox:latest", "tier": "front"}
    events.publish("container", "health_status: unhealthy", "ab" * 32, attributes)
    events.publish("network", "create", "cd" * 32, {"name": "net"})
    assert await names(events, 0, clock.now_ns(), Filters(filters)) == expected
