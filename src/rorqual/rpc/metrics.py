"""Messages of io.containerd.cgroups.v1.Metrics: what a shim's Stats answers, on cgroup v1 and v2 alike.

Written by the shim, read by rorquald and by `ctr tasks metrics`.
Source: containerd/cgroups, cgroup1/stats/metrics.proto.
"""

from __future__ import annotations

from rorqual.rpc.wire import Field, Message, message

TYPE_URL = "io.containerd.cgroups.v1.Metrics"


@message
class PidsStat(Message):
    """`limit` 0 is none."""

    current: int = 0
    limit: int = 0
    FIELDS = (
        Field(1, "current", "varint"),
        Field(2, "limit", "varint"),
    )


@message
class CPUUsage(Message):
    """Nanoseconds; `per_cpu` is empty where the kernel does not tell it (cgroup v2)."""

    total: int = 0
    kernel: int = 0
    user: int = 0
    per_cpu: list[int] = []
    FIELDS = (
        Field(1, "total", "varint"),
        Field(2, "kernel", "varint"),
        Field(3, "user", "varint"),
        Field(4, "per_cpu", "varint", repeated=True),
    )


@message
class Throttle(Message):
    """Counts of periods; `throttled_time` in nanoseconds."""

    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0
    FIELDS = (
        Field(1, "periods", "varint"),
        Field(2, "throttled_periods", "varint"),
        Field(3, "throttled_time", "varint"),
    )


@message
class CPUStat(Message):
    """CPU time and throttling."""

    usage: CPUUsage | None = None
    throttling: Throttle | None = None
    FIELDS = (
        Field(1, "usage", CPUUsage),
        Field(2, "throttling", Throttle),
    )


@message
class MemoryEntry(Message):
    """Bytes, and how often the limit was hit."""

    limit: int = 0
    usage: int = 0
    max: int = 0
    failcnt: int = 0
    FIELDS = (
        Field(1, "limit", "varint"),
        Field(2, "usage", "varint"),
        Field(3, "max", "varint"),
        Field(4, "failcnt", "varint"),
    )


@message
class MemoryStat(Message):
    """Bytes, and counts of pages and faults, as memory.stat has them."""

    cache: int = 0
    rss: int = 0
    rss_huge: int = 0
    mapped_file: int = 0
    dirty: int = 0
    writeback: int = 0
    pg_pg_in: int = 0
    pg_pg_out: int = 0
    pg_fault: int = 0
    pg_maj_fault: int = 0
    inactive_anon: int = 0
    active_anon: int = 0
    inactive_file: int = 0
    active_file: int = 0
    unevictable: int = 0
    hierarchical_memory_limit: int = 0
    hierarchical_swap_limit: int = 0
    total_cache: int = 0
    total_rss: int = 0
    total_rss_huge: int = 0
    total_mapped_file: int = 0
    total_dirty: int = 0
    total_writeback: int = 0
    total_pg_pg_in: int = 0
    total_pg_pg_out: int = 0
    total_pg_fault: int = 0
    total_pg_maj_fault: int = 0
    total_inactive_anon: int = 0
    total_active_anon: int = 0
    total_inactive_file: int = 0
    total_active_file: int = 0
    total_unevictable: int = 0
    usage: MemoryEntry | None = None
    swap: MemoryEntry | None = None
    kernel: MemoryEntry | None = None
    kernel_tcp: MemoryEntry | None = None
    FIELDS = (
        Field(1, "cache", "varint"),
        Field(2, "rss", "varint"),
        Field(3, "rss_huge", "varint"),
        Field(4, "mapped_file", "varint"),
        Field(5, "dirty", "varint"),
        Field(6, "writeback", "varint"),
        Field(7, "pg_pg_in", "varint"),
        Field(8, "pg_pg_out", "varint"),
        Field(9, "pg_fault", "varint"),
        Field(10, "pg_maj_fault", "varint"),
        Field(11, "inactive_anon", "varint"),
        Field(12, "active_anon", "varint"),
        Field(13, "inactive_file", "varint"),
        Field(14, "active_file", "varint"),
        Field(15, "unevictable", "varint"),
        Field(16, "hierarchical_memory_limit", "varint"),
        Field(17, "hierarchical_swap_limit", "varint"),
        Field(18, "total_cache", "varint"),
        Field(19, "total_rss", "varint"),
        Field(20, "total_rss_huge", "varint"),
        Field(21, "total_mapped_file", "varint"),
        Field(22, "total_dirty", "varint"),
        Field(23, "total_writeback", "varint"),
        Field(24, "total_pg_pg_in", "varint"),
        Field(25, "total_pg_pg_out", "varint"),
        Field(26, "total_pg_fault", "varint"),
        Field(27, "total_pg_maj_fault", "varint"),
        Field(28, "total_inactive_anon", "varint"),
        Field(29, "total_active_anon", "varint"),
        Field(30, "total_inactive_file", "varint"),
        Field(31, "total_active_file", "varint"),
        Field(32, "total_unevictable", "varint"),
        Field(33, "usage", MemoryEntry),
        Field(34, "swap", MemoryEntry),
        Field(35, "kernel", MemoryEntry),
        Field(36, "kernel_tcp", MemoryEntry),
    )


@message
class MemoryOomControl(Message):
    """memory.oom_control."""

    oom_kill_disable: int = 0
    under_oom: int = 0
    oom_kill: int = 0
    FIELDS = (
        Field(1, "oom_kill_disable", "varint"),
        Field(2, "under_oom", "varint"),
        Field(3, "oom_kill", "varint"),
    )


@message
class BlkIOEntry(Message):
    """One operation on one device."""

    op: str = ""
    device: str = ""
    major: int = 0
    minor: int = 0
    value: int = 0
    FIELDS = (
        Field(1, "op", "string"),
        Field(2, "device", "string"),
        Field(3, "major", "varint"),
        Field(4, "minor", "varint"),
        Field(5, "value", "varint"),
    )


@message
class BlkIOStat(Message):
    """Bytes, counts and times by operation and device."""

    io_service_bytes_recursive: list[BlkIOEntry] = []
    io_serviced_recursive: list[BlkIOEntry] = []
    io_queued_recursive: list[BlkIOEntry] = []
    io_service_time_recursive: list[BlkIOEntry] = []
    io_wait_time_recursive: list[BlkIOEntry] = []
    io_merged_recursive: list[BlkIOEntry] = []
    io_time_recursive: list[BlkIOEntry] = []
    sectors_recursive: list[BlkIOEntry] = []
    FIELDS = (
        Field(1, "io_service_bytes_recursive", BlkIOEntry, True),
        Field(2, "io_serviced_recursive", BlkIOEntry, True),
        Field(3, "io_queued_recursive", BlkIOEntry, True),
        Field(4, "io_service_time_recursive", BlkIOEntry, True),
        Field(5, "io_wait_time_recursive", BlkIOEntry, True),
        Field(6, "io_merged_recursive", BlkIOEntry, True),
        Field(7, "io_time_recursive", BlkIOEntry, True),
        Field(8, "sectors_recursive", BlkIOEntry, True),
    )


@message
class HugetlbStat(Message):
    """Bytes of one page size."""

    usage: int = 0
    max: int = 0
    failcnt: int = 0
    pagesize: str = ""
    FIELDS = (
        Field(1, "usage", "varint"),
        Field(2, "max", "varint"),
        Field(3, "failcnt", "varint"),
        Field(4, "pagesize", "string"),
    )


@message
class RdmaEntry(Message):
    """Handles of one device."""

    device: str = ""
    hca_handles: int = 0
    hca_objects: int = 0
    FIELDS = (
        Field(1, "device", "string"),
        Field(2, "hca_handles", "varint"),
        Field(3, "hca_objects", "varint"),
    )


@message
class RdmaStat(Message):
    """Handles now and at most."""

    current: list[RdmaEntry] = []
    limit: list[RdmaEntry] = []
    FIELDS = (
        Field(1, "current", RdmaEntry, True),
        Field(2, "limit", RdmaEntry, True),
    )


@message
class Metrics(Message):
    """All of a container's figures."""

    hugetlb: list[HugetlbStat] = []
    pids: PidsStat | None = None
    cpu: CPUStat | None = None
    memory: MemoryStat | None = None
    blkio: BlkIOStat | None = None
    rdma: RdmaStat | None = None
    memory_oom_control: MemoryOomControl | None = None
    FIELDS = (
        Field(1, "hugetlb", HugetlbStat, True),
        Field(2, "pids", PidsStat),
        Field(3, "cpu", CPUStat),
        Field(4, "memory", MemoryStat),
        Field(5, "blkio", BlkIOStat),
        Field(6, "rdma", RdmaStat),
        Field(9, "memory_oom_control", MemoryOomControl),
    )
