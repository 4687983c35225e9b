"""A container's figures as the shim reads them: from this process's own groups."""

import os
import time
from collections.abc import Callable

import pytest

from rorqual import errdefs
from rorqual.linux import cgroups
from rorqual.rpc.metrics import Metrics
from rorqual.runc.cgroups import locate
from rorqual.shim.meter import Meter, warm_up


def asked() -> tuple[list[int], Callable[[], dict[str, str]]]:
    times: list[int] = []

    def find() -> dict[str, str]:
        times.append(1)
        return locate.own()

    return times, find


def test_samples_fork_nothing_and_ask_once_where_the_groups_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_fork() -> int:
        raise AssertionError("a sample forked")

    monkeypatch.setattr(os, "fork", no_fork)
    times, find = asked()
    meter = Meter(find)

    def total() -> int:
        cpu = Metrics.decode(meter.read()).cpu
        assert cpu is not None and cpu.usage is not None
        return cpu.usage.total

    first = total()
    deadline = time.monotonic() + 10
    while total() <= first:  # the kernel adds at its ticks
        assert time.monotonic() < deadline
    assert first > 0 and times == [1]


@pytest.mark.skipif(cgroups.is_unified(), reason="cgroup v2 has no times by processor")
def test_times_by_processor_add_up() -> None:
    usage = Metrics.decode(Meter(locate.own).read()).cpu.usage  # type: ignore[union-attr]
    assert usage is not None
    assert len(usage.per_cpu) == os.cpu_count()
    assert abs(sum(usage.per_cpu) - usage.total) < usage.total / 100 + 50_000_000


def test_a_host_that_shows_no_groups_is_warmed_up_for_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "own", dict)
    with pytest.raises(errdefs.PermissionDenied):
        Meter(locate.own).read()
    warm_up()
