"""A group's use of resources read from cgroup v2's files. Where v1 counts otherwise, its meaning is kept.

Source: Documentation/admin-guide/cgroup-v2.rst; Documentation/accounting/psi.rst.
"""

from __future__ import annotations

import os

from rorqual.runc.cgroups import group
from rorqual.runc.cgroups.stats import (
    BlkioEntry,
    BlkioStats,
    CpuStats,
    Details,
    HugetlbStats,
    MemoryEntry,
    MemoryStats,
    PidsStats,
    Pressure,
    PressureLine,
    Stats,
)

_UNLIMITED = 2**64 - 1
_SERVICE_BYTES = {"rbytes": "Read", "wbytes": "Write", "dbytes": "Discard"}
_SERVICED = {"rios": "Read", "wios": "Write", "dios": "Discard"}


def read(directory: str) -> Stats:
    return Stats(_cpu(directory), _memory(directory), _pids(directory), _io(directory), _huge(directory))


def details() -> Details:
    """v2 counts neither by processor nor what a v1 cpuset tells."""
    return Details()


def _limit(path: str) -> int:
    """`max` as the largest number."""
    try:
        text = group.read_file(path)
    except OSError:
        return 0
    return _UNLIMITED if text == "max" else int(text)


def _cpu(directory: str) -> CpuStats:
    figures = group.flat(f"{directory}/cpu.stat")
    return CpuStats(
        figures.get("usage_usec", 0) * 1000,
        figures.get("user_usec", 0) * 1000,
        figures.get("system_usec", 0) * 1000,
        (),
        figures.get("nr_periods", 0),
        figures.get("nr_throttled", 0),
        figures.get("throttled_usec", 0) * 1000,
        _pressure(f"{directory}/cpu.pressure"),
    )


def _memory(directory: str) -> MemoryStats:
    events = group.flat(f"{directory}/memory.events")
    usage = MemoryEntry(
        group.read_number(f"{directory}/memory.current") or 0,
        group.read_number(f"{directory}/memory.peak") or 0,
        events.get("max", 0),
        _limit(f"{directory}/memory.max"),
    )
    swap = MemoryEntry()
    alone = group.read_number(f"{directory}/memory.swap.current")
    if alone is not None:  # v2 counts swap alone, v1 memory and swap together
        bound = _limit(f"{directory}/memory.swap.max")
        total = _UNLIMITED if _UNLIMITED in (bound, usage.limit) else bound + usage.limit
        failed = group.flat(f"{directory}/memory.swap.events").get("max", 0)
        swap = MemoryEntry(usage.usage + alone, 0, failed, total)
    raw = group.flat(f"{directory}/memory.stat")
    return MemoryStats(
        usage,
        swap,
        MemoryEntry(raw.get("kernel", 0)),
        MemoryEntry(raw.get("sock", 0)),
        raw,
        events.get("oom_kill", 0),
        _pressure(f"{directory}/memory.pressure"),
    )


def _pids(directory: str) -> PidsStats:
    limit = group.read_number(f"{directory}/pids.max") or 0
    return PidsStats(group.read_number(f"{directory}/pids.current") or 0, limit)


def _io(directory: str) -> BlkioStats:
    """io.stat: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`."""
    try:
        lines = group.read_file(f"{directory}/io.stat").splitlines()
    except OSError:
        lines = []
    service_bytes: list[BlkioEntry] = []
    serviced: list[BlkioEntry] = []
    for line in lines:
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        if not (major.isdigit() and minor.isdigit()):
            continue
        for pair in pairs:
            key, _, value = pair.partition("=")
            if key in _SERVICE_BYTES:
                service_bytes.append(BlkioEntry(int(major), int(minor), _SERVICE_BYTES[key], int(value)))
            elif key in _SERVICED:
                serviced.append(BlkioEntry(int(major), int(minor), _SERVICED[key], int(value)))
    return BlkioStats(tuple(service_bytes), tuple(serviced), _pressure(f"{directory}/io.pressure"))


def _huge(directory: str) -> tuple[HugetlbStats, ...]:
    try:
        names = os.listdir(directory)
    except OSError:
        return ()
    sizes = sorted(
        name.split(".")[1]
        for name in names
        if name.startswith("hugetlb.") and name.endswith(".current") and ".rsvd." not in name
    )
    return tuple(
        HugetlbStats(
            size,
            group.read_number(f"{directory}/hugetlb.{size}.current") or 0,
            0,
            group.flat(f"{directory}/hugetlb.{size}.events").get("max", 0),
        )
        for size in sizes
    )


def _pressure(path: str) -> Pressure | None:
    """None where the kernel doesn't measure it: built without, or booted without psi=1 (reading gives EOPNOTSUPP)."""
    try:
        lines = group.read_file(path).splitlines()
    except OSError:
        return None
    found = {}
    for line in lines:
        kind, *pairs = line.split()
        numbers = dict(pair.split("=", 1) for pair in pairs)
        found[kind] = PressureLine(
            float(numbers["avg10"]), float(numbers["avg60"]), float(numbers["avg300"]), int(numbers["total"])
        )
    return Pressure(found.get("some", PressureLine()), found.get("full", PressureLine()))
