"""A container's figures for `stats`: its task's metrics, its network's counters, and the host's CPU time.

Source: Engine API 1.56, ContainerStats; how clients compute percentages from two samples is described there too.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from rorqual.daemon.services import clock
from rorqual.daemon.services.containers.networking import HOST, NONE, kind_of
from rorqual.daemon.services.containers.record import Container
from rorqual.daemon.services.containers.registry import Registry
from rorqual.errdefs import Error
from rorqual.rpc.metrics import BlkIOEntry, MemoryStat, Metrics

INTERVAL_S = 1.0
_EMPTY_TIME = "0001-01-01T00:00:00Z"
_TICKS = os.sysconf("SC_CLK_TCK")
_FILE_MAX = 1 << 20
# The kernel's names where the message has others.
_KERNEL_NAMES = {
    "pg_pg_in": "pgpgin",
    "pg_pg_out": "pgpgout",
    "pg_fault": "pgfault",
    "pg_maj_fault": "pgmajfault",
    "hierarchical_swap_limit": "hierarchical_memsw_limit",
}
_BLOCK_FIELDS = {
    "io_service_bytes_recursive": "io_service_bytes_recursive",
    "io_serviced_recursive": "io_serviced_recursive",
    "io_queue_recursive": "io_queued_recursive",
    "io_service_time_recursive": "io_service_time_recursive",
    "io_wait_time_recursive": "io_wait_time_recursive",
    "io_merged_recursive": "io_merged_recursive",
    "io_time_recursive": "io_time_recursive",
    "sectors_recursive": "sectors_recursive",
}
_COLUMNS = "rx_bytes rx_packets rx_errors rx_dropped", "tx_bytes tx_packets tx_errors tx_dropped"


class MetricSource(Protocol):
    """containerd's tasks."""

    async def metrics(self, id: str) -> bytes:
        """io.containerd.cgroups.v1.Metrics of a task. Raises: NotFound."""


class StatsReader:
    """Samples of containers."""

    def __init__(self, tasks: MetricSource, registry: Registry) -> None:
        self._tasks = tasks
        self._registry = registry

    async def once(self, container: Container, *, one_shot: bool) -> dict[str, Any]:
        """One answer: a single sample with `one_shot`, else the second of two, a second apart."""
        sample = await self._sample(container)
        if one_shot or not container.state.running:
            return with_previous(sample, None)
        await asyncio.sleep(INTERVAL_S)
        return with_previous(await self._sample(container), sample)

    async def stream(self, container: Container) -> AsyncIterator[dict[str, Any]]:
        """A sample each second, empty ones while it doesn't run, until the container is removed."""
        before: dict[str, Any] | None = None
        while self._registry.by_id(container.id) is container:
            sample = await self._sample(container)
            yield with_previous(sample, before)
            before = sample
            await asyncio.sleep(INTERVAL_S)

    async def _sample(self, container: Container) -> dict[str, Any]:
        """An empty one when it doesn't run, or ended meanwhile."""
        if not container.state.running:
            return empty(container)
        try:
            metrics = Metrics.decode(await self._tasks.metrics(container.id))
        except Error:
            return empty(container)
        sample = empty(container) | {"read": clock.rfc3339(clock.now_ns())}
        system_ns, cpus = system_cpu(_read("/proc/stat"))
        sample["cpu_stats"] = cpu_stats(metrics) | {"system_cpu_usage": system_ns, "online_cpus": cpus}
        sample["memory_stats"] = memory_stats(metrics.memory, machine_memory(), unified=_unified())
        sample["blkio_stats"] = blkio_stats(metrics)
        if metrics.pids is not None:
            limit = {"limit": metrics.pids.limit} if metrics.pids.limit else {}
            sample["pids_stats"] = {"current": metrics.pids.current, **limit}
        networks = self._networks(container)
        if networks is not None:
            sample["networks"] = networks
        return sample

    def _networks(self, container: Container) -> dict[str, dict[str, int]] | None:
        """Counters by interface; those of the container whose network it shares."""
        owner: Container | None = container
        for _ in range(16):
            if owner is None or not owner.host.network_mode.startswith("container:"):
                break
            owner = self._registry.by_id(owner.host.network_mode.partition(":")[2])
        if owner is None or not owner.state.pid or kind_of(owner) in (NONE, HOST):
            return {} if owner is not None and kind_of(owner) == HOST else None
        try:
            return interfaces(_read(f"/proc/{owner.state.pid}/net/dev"))
        except OSError:
            return None  # it ended just now


def empty(container: Container) -> dict[str, Any]:
    """What is told of a container that doesn't run."""
    return {
        "id": container.id,
        "name": f"/{container.name}",
        "os_type": "linux",
        "read": _EMPTY_TIME,
        "cpu_stats": _no_cpu(),
        "memory_stats": {},
        "pids_stats": {},
        "blkio_stats": dict.fromkeys(_BLOCK_FIELDS),
        "num_procs": 0,
        "storage_stats": {},
    }


def with_previous(sample: dict[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The sample with the CPU times of the one before, from which clients compute percentages."""
    preread, precpu = (before["read"], before["cpu_stats"]) if before is not None else (_EMPTY_TIME, _no_cpu())
    return {**sample, "preread": preread, "precpu_stats": precpu}


def _no_cpu() -> dict[str, Any]:
    return {
        "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    }


def cpu_stats(metrics: Metrics) -> dict[str, Any]:
    """Nanoseconds of CPU."""
    found = _no_cpu()
    usage = metrics.cpu.usage if metrics.cpu else None
    throttling = metrics.cpu.throttling if metrics.cpu else None
    if usage is not None:
        found["cpu_usage"] = {
            "total_usage": usage.total,
            "usage_in_kernelmode": usage.kernel,
            "usage_in_usermode": usage.user,
        }
        if usage.per_cpu:  # cgroup v1 alone
            found["cpu_usage"]["percpu_usage"] = usage.per_cpu
    if throttling is not None:
        found["throttling_data"] = {
            "periods": throttling.periods,
            "throttled_periods": throttling.throttled_periods,
            "throttled_time": throttling.throttled_time,
        }
    return found


def memory_stats(memory: MemoryStat | None, machine_bytes: int, *, unified: bool) -> dict[str, Any]:
    """Bytes. cgroup v2 has neither totals of the hierarchy nor a highest use. No limit is the machine's memory."""
    if memory is None:
        return {}
    raw: dict[str, int] = {}
    for field in MemoryStat.FIELDS:
        if field.kind != "varint" or (unified and field.name.startswith(("total_", "hierarchical_"))):
            continue
        total = field.name.startswith("total_")
        bare = field.name.removeprefix("total_")
        raw[("total_" if total else "") + _KERNEL_NAMES.get(bare, bare)] = getattr(memory, field.name)
    found: dict[str, Any] = {"stats": raw}
    usage = memory.usage
    if usage is not None:
        found["usage"] = usage.usage
        if not unified:
            found["max_usage"] = usage.max
        if usage.failcnt:
            found["failcnt"] = usage.failcnt
        found["limit"] = min(usage.limit, machine_bytes) or machine_bytes
    return found


def blkio_stats(metrics: Metrics) -> dict[str, list[dict[str, Any]] | None]:
    """By device and operation."""
    found: dict[str, list[dict[str, Any]] | None] = {}
    for key, attribute in _BLOCK_FIELDS.items():
        entries: list[BlkIOEntry] = getattr(metrics.blkio, attribute) if metrics.blkio is not None else []
        shown = [{"major": e.major, "minor": e.minor, "op": e.op.lower(), "value": e.value} for e in entries]
        found[key] = shown or None
    return found


def interfaces(text: str) -> dict[str, dict[str, int]]:
    """/proc/<pid>/net/dev without the loopback. Source: proc_pid_net(5)."""
    found: dict[str, dict[str, int]] = {}
    for line in text.splitlines()[2:]:
        name, _, figures = line.partition(":")
        values = [int(figure) for figure in figures.split()]
        if name.strip() == "lo" or len(values) < 12:
            continue
        received = zip(_COLUMNS[0].split(), values[:4], strict=True)
        sent = zip(_COLUMNS[1].split(), values[8:12], strict=True)
        found[name.strip()] = dict([*received, *sent])
    return found


def system_cpu(text: str) -> tuple[int, int]:
    """(ns of CPU time that all CPUs spent, idle or not, how many CPUs there are) of /proc/stat."""
    total_ns = cpus = 0
    for line in text.splitlines():
        if not line.startswith("cpu"):
            break
        if line.startswith("cpu "):
            # Guest time is counted in user time already: the first seven columns are all.
            total_ns = sum(map(int, line.split()[1:8])) * 10**9 // _TICKS
        else:
            cpus += 1
    return total_ns, cpus


def machine_memory() -> int:
    """Bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _unified() -> bool:
    return os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(_FILE_MAX)
