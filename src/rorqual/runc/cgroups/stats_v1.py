"""A container's use of resources read from cgroup v1's files. `groups`: controller -> directory.

Source: Documentation/admin-guide/cgroup-v1/{cpuacct,memory,blkio-controller,hugetlb,cpusets}.rst.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from rorqual.runc.cgroups import group
from rorqual.runc.cgroups.stats import (
    BlkioEntry,
    BlkioStats,
    CpusetStats,
    CpuStats,
    Details,
    HugetlbStats,
    MemoryEntry,
    MemoryStats,
    PidsStats,
    Stats,
)

Groups = Mapping[str, str]

_USER_HZ_NS = 10_000_000  # USER_HZ is 100 on every architecture
_ENTRY_FILES = ("usage_in_bytes", "max_usage_in_bytes", "failcnt", "limit_in_bytes")
_CPUSET_NUMBERS = (
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
    "sched_relax_domain_level",
)
_BLKIO_DETAILS = ("io_queued", "io_service_time", "io_wait_time", "io_merged", "time", "sectors")


def read(groups: Groups) -> Stats:
    return Stats(_cpu(groups), _memory(groups), _pids(groups), _block_io(groups), _huge(groups))


def details(groups: Groups) -> Details:
    user, kernel = _per_cpu(groups.get("cpuacct", ""))
    directory = groups.get("blkio", "")
    found = {name: _first(directory, f"bfq.{name}_recursive", f"{name}_recursive") for name in _BLKIO_DETAILS}
    return Details(user, kernel, _cpuset(groups.get("cpuset", "")), {name: e for name, e in found.items() if e})


def _cpu(groups: Groups) -> CpuStats:
    accounting = groups.get("cpuacct", "")
    split = group.flat(f"{accounting}/cpuacct.stat")
    throttling = group.flat(f"{groups.get('cpu', '')}/cpu.stat")
    per_cpu: tuple[int, ...] = ()
    with suppress(OSError):
        per_cpu = tuple(int(n) for n in group.read_file(f"{accounting}/cpuacct.usage_percpu").split())
    return CpuStats(
        group.read_number(f"{accounting}/cpuacct.usage") or 0,
        split.get("user", 0) * _USER_HZ_NS,
        split.get("system", 0) * _USER_HZ_NS,
        per_cpu,
        throttling.get("nr_periods", 0),
        throttling.get("nr_throttled", 0),
        throttling.get("throttled_time", 0),
    )


def _per_cpu(directory: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """cpuacct.usage_all: a heading, then `cpu user system` for each processor."""
    try:
        lines = group.read_file(f"{directory}/cpuacct.usage_all").splitlines()[1:]
    except OSError:
        return (), ()
    rows = [line.split() for line in lines]
    return tuple(int(row[1]) for row in rows), tuple(int(row[2]) for row in rows)


def _memory(groups: Groups) -> MemoryStats:
    directory = groups.get("memory", "")

    def entry(name: str) -> MemoryEntry:
        prefix = f"{directory}/memory.{name}"
        numbers = (group.read_number(prefix + file) or 0 for file in _ENTRY_FILES)
        return MemoryEntry(*numbers)

    raw = group.flat(f"{directory}/memory.stat")
    kills = group.flat(f"{directory}/memory.oom_control").get("oom_kill", 0)
    return MemoryStats(entry(""), entry("memsw."), entry("kmem."), entry("kmem.tcp."), raw, kills)


def _pids(groups: Groups) -> PidsStats:
    directory = groups.get("pids", "")
    current = group.read_number(f"{directory}/pids.current") or 0
    return PidsStats(current, group.read_number(f"{directory}/pids.max") or 0)


def _block_io(groups: Groups) -> BlkioStats:
    """The throttling layer counts what every device did; BFQ only what its own scheduled."""
    directory = groups.get("blkio", "")
    return BlkioStats(
        _blkio(f"{directory}/blkio.throttle.io_service_bytes_recursive"),
        _blkio(f"{directory}/blkio.throttle.io_serviced_recursive"),
    )


def _first(directory: str, *names: str) -> tuple[BlkioEntry, ...]:
    return next((e for name in names if (e := _blkio(f"{directory}/blkio.{name}"))), ())


def _blkio(path: str) -> tuple[BlkioEntry, ...]:
    """`8:0 Read 4096`, or `8:0 17` of what has no direction."""
    try:
        text = group.read_file(path)
    except OSError:
        return ()
    entries = []
    for line in text.splitlines():
        device, *rest = line.split()
        major, _, minor = device.partition(":")
        if major.isdigit() and minor.isdigit() and rest:
            entries.append(BlkioEntry(int(major), int(minor), rest[0] if len(rest) > 1 else "", int(rest[-1])))
    return tuple(entries)


def _huge(groups: Groups) -> tuple[HugetlbStats, ...]:
    directory = groups.get("hugetlb")
    if directory is None:
        return ()
    found = []
    for name in os.listdir(directory):
        if name.endswith(".usage_in_bytes") and ".rsvd." not in name:
            size = name.split(".")[1]
            numbers = [
                group.read_number(f"{directory}/hugetlb.{size}.{file}") or 0
                for file in ("usage_in_bytes", "max_usage_in_bytes", "failcnt")
            ]
            found.append(HugetlbStats(size, *numbers))
    return tuple(found)


def _cpuset(directory: str) -> CpusetStats | None:
    try:
        cpus, mems = (_list(group.read_file(f"{directory}/cpuset.{name}")) for name in ("cpus", "mems"))
    except OSError:
        return None
    numbers = {name: group.read_number(f"{directory}/cpuset.{name}") or 0 for name in _CPUSET_NUMBERS}
    return CpusetStats(cpus, mems, numbers)


def _list(text: str) -> tuple[int, ...]:
    """`0-2,5` -> 0, 1, 2, 5"""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        low, _, high = part.partition("-")
        found += range(int(low), int(high or low) + 1)
    return tuple(found)
