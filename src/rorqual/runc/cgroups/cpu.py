"""cpu: shares or weight, quota and period, burst, idle, real time. Source: runtime-spec config-linux.md, CPU."""

from math import log2

from rorqual.errdefs import InvalidArgument
from rorqual.oci.runtime import CPU
from rorqual.runc.cgroups.settings import Write, Writes


def v1(cpu: CPU) -> Writes:
    writes: Writes = []
    if cpu.shares:
        writes.append(Write("cpu.shares", str(cpu.shares)))
    _add_idle(writes, cpu)
    writes += _bandwidth_v1(cpu)
    if cpu.realtime_period:
        writes.append(Write("cpu.rt_period_us", str(cpu.realtime_period)))
    if cpu.realtime_runtime:
        writes.append(Write("cpu.rt_runtime_us", str(cpu.realtime_runtime)))
    return writes


def _add_idle(writes: Writes, cpu: CPU) -> None:
    """An idle group has no weight of its own: the kernel refuses one while it is idle."""
    if cpu.idle is not None:
        writes.insert(len(writes) if cpu.idle else 0, Write("cpu.idle", str(cpu.idle)))


def _bandwidth_v1(cpu: CPU) -> Writes:
    """The kernel refuses a burst above the quota, and a period that makes the present quota too large a share."""
    writes: Writes = []
    if cpu.burst is not None and cpu.quota:
        writes.append(Write("cpu.cfs_burst_us", "0", optional=True))
    if cpu.period:
        writes.append(Write("cpu.cfs_period_us", str(cpu.period)))
    if cpu.quota:
        writes.append(Write("cpu.cfs_quota_us", str(cpu.quota)))
    if cpu.burst is not None:
        writes.append(Write("cpu.cfs_burst_us", str(cpu.burst)))
    return writes


def other_order(writes: Writes) -> Writes | None:
    """Quota before period: below a group with a quota, the one order or the other passes through too large a share."""
    files = [write.file for write in writes]
    try:
        period, quota = files.index("cpu.cfs_period_us"), files.index("cpu.cfs_quota_us")
    except ValueError:
        return None
    swapped = list(writes)
    swapped[period], swapped[quota] = writes[quota], writes[period]
    return swapped


def weight(shares: int) -> int:
    """cgroup v2's weight (1-10000) for v1's shares (2-262144), 1024 shares giving the default weight of 100.

    Source: the quadratic that runtimes agreed on (opencontainers/cgroups, 2024), which keeps all three points.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    exponent = log2(shares)
    power = (exponent * exponent + 125 * exponent) / 612.0 - 7.0 / 34.0
    return -int(-(10.0**power) // 1)


def v2(cpu: CPU, current: str = "") -> Writes:
    """`current`: the group's cpu.max now ("max 100000"), for a change of quota or period alone."""
    writes: Writes = []
    if cpu.shares:
        writes.append(Write("cpu.weight", str(weight(cpu.shares))))
    _add_idle(writes, cpu)
    if cpu.realtime_runtime or cpu.realtime_period:
        raise InvalidArgument("invalid config: linux.resources.cpu: real-time limits are not available on cgroup v2")
    if cpu.burst is not None and cpu.quota:
        writes.append(Write("cpu.max.burst", "0", optional=True))  # a burst above the quota is refused
    if cpu.quota or cpu.period:
        quota, _, period = current.partition(" ")
        if cpu.quota:
            quota = "max" if cpu.quota < 0 else str(cpu.quota)
        writes.append(Write("cpu.max", f"{quota or 'max'} {cpu.period or period or 100000}"))
    if cpu.burst is not None:
        writes.append(Write("cpu.max.burst", str(cpu.burst)))
    return writes
