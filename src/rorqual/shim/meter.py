"""A container's figures, read by the shim itself: a child for each sample cost six times as much (shim/forked.py).

What a shim that is asked for figures dirties is the less for `warm_up`, in the spawner.
"""

from __future__ import annotations

import contextlib

from rorqual import errdefs
from rorqual.rpc import metrics
from rorqual.runc.cgroups import locate
from rorqual.runc.cgroups.group import Group
from rorqual.runc.cgroups.stats import BlkioEntry, MemoryEntry, Stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_WARM_ROUNDS = 10  # the interpreter specialises bytecode that has run so often


class Meter:
    """Reads the groups that `find` names (controller -> directory); it is asked once, and may be slow."""

    def __init__(self, find: Callable[[], dict[str, str]]) -> None:
        self._find = find
        self._group: Group | None = None

    def read(self) -> bytes:
        """An encoded io.containerd.cgroups.v1.Metrics."""
        if self._group is None:
            self._group = locate.existing(self._find())
        return to_metrics(self._group.stats()).encode()


def warm_up() -> None:
    """Take samples of this very process, before anything forks: none on a host that shows no groups."""
    own = Meter(locate.own)
    with contextlib.suppress(errdefs.PermissionDenied):
        for _ in range(_WARM_ROUNDS):
            own.read()


def to_metrics(stats: Stats) -> metrics.Metrics:
    """The runtime's figures in containerd's message."""
    cpu, memory = stats.cpu, stats.memory
    known = {f.name for f in metrics.MemoryStat.FIELDS if f.kind == "varint"}
    names = {"pgpgin": "pg_pg_in", "pgpgout": "pg_pg_out", "pgfault": "pg_fault", "pgmajfault": "pg_maj_fault"}
    raw: dict[str, int] = {}
    for key, value in memory.raw.items():
        total = key.startswith("total_")
        bare = names.get(key.removeprefix("total_"), key.removeprefix("total_"))
        name = {"hierarchical_memsw_limit": "hierarchical_swap_limit"}.get(bare, f"total_{bare}" if total else bare)
        if name in known:
            raw[name] = value
    return metrics.Metrics(
        pids=metrics.PidsStat(stats.pids.current, stats.pids.limit),
        cpu=metrics.CPUStat(
            metrics.CPUUsage(cpu.total_ns, cpu.kernel_ns, cpu.user_ns, list(cpu.per_cpu_ns)),
            metrics.Throttle(cpu.periods, cpu.throttled_periods, cpu.throttled_ns),
        ),
        memory=metrics.MemoryStat(
            **raw,
            usage=_entry(memory.usage),
            swap=_entry(memory.swap),
            kernel=_entry(memory.kernel),
            kernel_tcp=_entry(memory.kernel_tcp),
        ),
        blkio=metrics.BlkIOStat(
            io_service_bytes_recursive=[_blkio(e) for e in stats.blkio.service_bytes],
            io_serviced_recursive=[_blkio(e) for e in stats.blkio.serviced],
        ),
        memory_oom_control=metrics.MemoryOomControl(oom_kill=memory.oom_kills),
    )


def _entry(entry: MemoryEntry) -> metrics.MemoryEntry:
    return metrics.MemoryEntry(limit=entry.limit, usage=entry.usage, max=entry.max, failcnt=entry.failcnt)


def _blkio(entry: BlkioEntry) -> metrics.BlkIOEntry:
    return metrics.BlkIOEntry(op=entry.op, major=entry.major, minor=entry.minor, value=entry.value)
