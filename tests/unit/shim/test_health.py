"""The rules of a health check, and a monitor on a real loop with probes that are plain children."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rorqual.errdefs import InvalidArgument
from rorqual.shim.health import HEALTHY, STARTING, UNHEALTHY, Health, HealthOptions, Monitor, Result
from rorqual.shim.loop import Loop


def options(**changes: float) -> HealthOptions:
    values = {"interval_s": 30.0, "timeout_s": 5.0, "start_period_s": 0.0, "start_interval_s": 5.0, "retries": 3}
    return HealthOptions.parse({"probe": {"kind": "tcp"}, **values, **changes})


def result(exit_code: int) -> Result:
    return Result(1, 2, exit_code, "")


def test_one_success_is_healthy_and_as_many_failures_as_retries_are_unhealthy() -> None:
    health = Health()
    assert health.record(result(0), options(), 1) and health.status == HEALTHY
    assert not health.record(result(1), options(), 2)
    assert not health.record(result(1), options(), 3)
    assert health.record(result(1), options(), 4) and health.status == UNHEALTHY and health.streak == 3
    assert health.record(result(0), options(), 5) and health.streak == 0


def test_failures_in_the_start_period_do_not_count_until_it_was_healthy_once() -> None:
    health, asked = Health(), options(start_period_s=10, retries=1)
    assert not health.record(result(1), asked, 9.9) and health.streak == 0
    health.record(result(0), asked, 5)
    assert health.record(result(1), asked, 6) and health.status == UNHEALTHY


def test_a_failure_after_the_start_period_counts() -> None:
    health = Health()
    assert health.record(result(1), options(start_period_s=10, retries=1), 10)


def test_the_start_interval_holds_while_starting_only() -> None:
    health, asked = Health(), options(start_period_s=10)
    assert health.delay_s(asked, 3) == 5
    assert health.delay_s(asked, 10) == 30
    health.record(result(0), asked, 1)
    assert health.delay_s(asked, 2) == 30
    assert Health().delay_s(options(), 0) == 30


def test_five_results_are_kept() -> None:
    health = Health()
    for code in range(7):
        health.record(result(code), options(), 0)
    assert [entry["exit_code"] for entry in json.loads(health.to_json())["log"]] == [2, 3, 4, 5, 6]


def test_options_that_are_none_are_refused() -> None:
    with pytest.raises(InvalidArgument):
        HealthOptions.parse({"interval_s": 1})


class Rig:
    """A monitor whose probes run `script` in a shell."""

    def __init__(self, path: Path, script: str, **changes: float) -> None:
        self.loop = Loop()
        self.path = path
        self.script = script
        self.changes: list[str] = []
        self._children: dict[int, Callable[[int], None]] = {}
        asked = options(**{"interval_s": 0.01, "timeout_s": 5.0, **changes})
        self.monitor = Monitor(self.loop, asked, str(path), self._spawn, self._children.__setitem__, self._changed)
        self.loop.on_child(self._reap)

    def _spawn(self, write_fd: int) -> int:
        actions = [(os.POSIX_SPAWN_DUP2, write_fd, 1)]
        return os.posix_spawn("/bin/sh", ["sh", "-c", self.script], os.environ, file_actions=actions)

    def _reap(self) -> None:
        for pid in list(self._children):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self._children.pop(pid)(status)

    def _changed(self) -> None:
        self.changes.append(str(self.report["status"]))
        self.loop.stop()

    @property
    def report(self) -> dict[str, object]:
        return dict(json.loads(self.path.read_text()))

    def run(self, limit_s: float = 10) -> None:
        self.loop.call_later(limit_s, self.loop.stop)
        self.loop.run()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(script: str, **changes: float) -> Rig:
        made.append(Rig(tmp_path / "health", script, **changes))
        return made[-1]

    yield make
    for one in made:
        one.monitor.stop()
        one._reap()
        one.loop.close()


def test_a_probe_that_succeeds_makes_it_healthy(rig: Callable[..., Rig]) -> None:
    one = rig("echo well")
    one.monitor.start()
    one.run()
    assert one.changes == [HEALTHY]
    entry = one.report["log"][0]  # type: ignore[index]
    assert entry["output"] == "well\n" and entry["exit_code"] == 0 and entry["start"] <= entry["end"]


def test_a_probe_that_takes_too_long_is_killed_and_fails(rig: Callable[..., Rig]) -> None:
    one = rig("echo begun; exec sleep 100", timeout_s=0.2, retries=1)
    one.monitor.start()
    one.run()
    assert one.changes == [UNHEALTHY]
    entry = one.report["log"][0]  # type: ignore[index]
    assert (entry["exit_code"], entry["output"]) == (-1, "Health check exceeded timeout (200ms): begun\n")


def test_output_is_bounded_and_a_probe_never_blocks_on_it(rig: Callable[..., Rig]) -> None:
    one = rig("head -c 1000000 /dev/zero | tr '\\0' x")
    one.monitor.start()
    one.run()
    assert one.changes == [HEALTHY]
    assert one.report["log"][0]["output"] == "x" * 4096 + "..."  # type: ignore[index]


def test_what_a_probe_leaves_behind_cannot_keep_the_shim_reading(rig: Callable[..., Rig]) -> None:
    """A writer that outlives the probe fills the pipe for ever; one read of it is always to be had here."""
    one = rig("true")
    reads: list[int] = []

    def endless(fd: int, size: int) -> bytes:
        reads.append(size)
        assert len(reads) < 5000, "the shim reads for ever"
        return b"x" * size

    one.loop.add = lambda *_: None  # type: ignore[method-assign]
    one.loop.remove = lambda *_: None  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        one.monitor._run()
        pid = one.monitor._probe._pid  # type: ignore[union-attr]
        os.waitpid(pid, 0)
        patch.setattr("rorqual.shim.health.os.read", endless)
        one._children.pop(pid)(0)
    assert one.report["log"][0]["output"] == "x" * 4096 + "..."  # type: ignore[index]


def test_a_probe_that_cannot_be_run_fails_with_the_reason(rig: Callable[..., Rig]) -> None:
    one = rig("true", retries=1)
    one._spawn = lambda write_fd: (_ for _ in ()).throw(OSError("no such thing"))  # type: ignore[method-assign]
    one.monitor._spawn = one._spawn
    one.monitor.start()
    one.run()
    entry = one.report["log"][0]  # type: ignore[index]
    assert one.changes == [UNHEALTHY] and entry["exit_code"] == -1 and entry["output"] == "no such thing"


def test_a_stopped_monitor_probes_no_more_and_goes_on_when_started(rig: Callable[..., Rig]) -> None:
    one = rig("true")
    one.monitor.start()
    one.monitor.stop()
    one.run(0.1)
    assert not one.path.exists()
    one.loop._running = True
    one.monitor.start()
    one.run()
    assert one.changes == [HEALTHY]


def test_a_signal_is_told_as_the_shell_does(rig: Callable[..., Rig]) -> None:
    one = rig("kill -9 $$", retries=1)
    one.monitor.start()
    began = time.monotonic()
    one.run()
    assert time.monotonic() - began < 5
    assert one.report["log"][0]["exit_code"] == 137  # type: ignore[index]


def test_starting_is_the_first_status() -> None:
    assert Health().status == STARTING
