"""A container's use of resources, one shape for cgroup v1 and v2. Times in nanoseconds, sizes in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rorqual.record import record


@record
class PressureLine:
    """Percent of the time that tasks waited, over 10, 60 and 300 seconds; all of it in microseconds."""

    avg10: float = 0.0
    avg60: float = 0.0
    avg300: float = 0.0
    total_us: int = 0


@record
class Pressure:
    """Stalls of some tasks, and of all at once (cgroup v2 with PSI)."""

    some: PressureLine
    full: PressureLine


@record
class CpuStats:
    total_ns: int = 0
    user_ns: int = 0
    kernel_ns: int = 0
    per_cpu_ns: tuple[int, ...] = ()
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0
    pressure: Pressure | None = None


@record
class MemoryEntry:
    usage: int = 0
    max: int = 0
    failcnt: int = 0
    limit: int = 0


@record
class MemoryStats:
    """`raw` are the numbers of memory.stat under the kernel's names."""

    usage: MemoryEntry = MemoryEntry()
    swap: MemoryEntry = MemoryEntry()
    kernel: MemoryEntry = MemoryEntry()
    kernel_tcp: MemoryEntry = MemoryEntry()
    raw: Mapping[str, int] = MappingProxyType({})
    oom_kills: int = 0
    pressure: Pressure | None = None


@record
class PidsStats:
    """`limit` 0: unlimited."""

    current: int = 0
    limit: int = 0


@record
class BlkioEntry:
    major: int
    minor: int
    op: str
    value: int


@record
class BlkioStats:
    service_bytes: tuple[BlkioEntry, ...] = ()
    serviced: tuple[BlkioEntry, ...] = ()
    pressure: Pressure | None = None


@record
class HugetlbStats:
    page_size: str
    usage: int
    max: int
    failcnt: int


@record
class CpusetStats:
    """cgroup v1's cpuset: processors and memory nodes, and its numbers under the kernel's names."""

    cpus: tuple[int, ...]
    mems: tuple[int, ...]
    numbers: Mapping[str, int]


@record
class Details:
    """Times by processor in user and kernel mode, the cpuset, and block I/O by the kernel's name of each figure."""

    per_cpu_user_ns: tuple[int, ...] = ()
    per_cpu_kernel_ns: tuple[int, ...] = ()
    cpuset: CpusetStats | None = None
    blkio: Mapping[str, tuple[BlkioEntry, ...]] = MappingProxyType({})


@record
class Stats:
    cpu: CpuStats
    memory: MemoryStats
    pids: PidsStats
    blkio: BlkioStats
    hugetlb: tuple[HugetlbStats, ...] = ()
