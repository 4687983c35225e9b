"""events: the use of resources now and then, and each time the container is out of memory. One JSON object a line.

Source: runc-events(8).
"""

from __future__ import annotations

import os
import select
import sys

from rorqual.errdefs import Conflict, InvalidArgument
from rorqual.oci import jsontext
from rorqual.runc import container as runc
from rorqual.runc import state
from rorqual.runc.cgroups.stats import BlkioEntry, CpusetStats, Details, MemoryEntry, Pressure, Stats
from rorqual.runc.commands.context import Context
from rorqual.runc.commands.parser import Line, Usage, expect, flag, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OPTIONS = (
    value("interval", help="the stats collection interval (5s)"),
    flag("stats", help="display the container's stats then exit"),
)

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def run(line: Line, context: Context) -> int:
    expect(line, "events", 1, 1)
    interval_s = _duration_s(line.get("interval", "5s"))
    made = runc.load(line.arguments[0], context.root)
    if made.status == state.STOPPED:
        raise Conflict(f"container with id {made.id} is not running")
    if line.has("stats"):
        _emit("stats", made.id, describe(*made.stats_in_detail()))
        return 0
    watch = made.oom_watch()
    seen = made.oom_kills()
    while made.status != state.STOPPED:
        if _ready(watch, interval_s):
            now = made.oom_kills()
            if now > seen:
                _emit("oom", made.id, None)
            seen = now
        else:
            _emit("stats", made.id, describe(*made.stats_in_detail()))
    return 0


def _ready(watch: int | None, seconds: float) -> bool:
    poll = select.poll()
    if watch is not None:
        poll.register(watch, select.POLLIN)
    if not poll.poll(seconds * 1000) or watch is None:
        return False
    os.read(watch, 4096)
    return True


def _duration_s(text: str) -> float:
    """Of a Go duration: `5s`, `1m30s`, `500ms`. Raises: Usage."""
    total, rest = 0.0, text.removeprefix("-")
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        unit = rest[digits:].rstrip("0123456789.")
        unit = next((u for u in sorted(_UNITS_S, key=len, reverse=True) if unit.startswith(u)), "")
        if not unit or not rest[:digits].replace(".", "", 1).isdigit():
            raise Usage(f'invalid value "{text}" for flag -interval: parse error')
        total += float(rest[:digits]) * _UNITS_S[unit]
        rest = rest[digits + len(unit) :]
    if total <= 0 or text.startswith("-"):
        raise InvalidArgument("duration interval must be greater than 0")
    return total


def _emit(kind: str, container_id: str, data: dict[str, Any] | None) -> None:
    document: dict[str, Any] = {"type": kind, "id": container_id}
    if data is not None:
        document["data"] = data
    sys.stdout.write(jsontext.dumps(document) + "\n")
    sys.stdout.flush()


def describe(stats: Stats, details: Details) -> dict[str, Any]:
    """runc's names for the figures."""
    cpu, memory = stats.cpu, stats.memory
    return {
        "cpu": {
            "usage": {
                "total": cpu.total_ns,
                "percpu": list(cpu.per_cpu_ns),
                "percpu_kernel": list(details.per_cpu_kernel_ns),
                "percpu_user": list(details.per_cpu_user_ns),
                "kernel": cpu.kernel_ns,
                "user": cpu.user_ns,
            },
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled_ns,
            },
            **_pressure(cpu.pressure),
        },
        "cpuset": _cpuset(details.cpuset),
        "memory": {
            "cache": memory.raw.get("cache", memory.raw.get("file", 0)),
            "usage": _entry(memory.usage),
            "swap": _entry(memory.swap),
            "kernel": _entry(memory.kernel),
            "kernelTCP": _entry(memory.kernel_tcp),
            "raw": dict(memory.raw),
            **_pressure(memory.pressure),
        },
        "pids": {"current": stats.pids.current, "limit": stats.pids.limit},
        "blkio": {
            "ioServiceBytesRecursive": [_blkio(e) for e in stats.blkio.service_bytes],
            "ioServicedRecursive": [_blkio(e) for e in stats.blkio.serviced],
            **{_BLKIO_NAMES[name]: [_blkio(e) for e in entries] for name, entries in details.blkio.items()},
            **_pressure(stats.blkio.pressure),
        },
        "hugetlb": {h.page_size: {"usage": h.usage, "max": h.max, "failcnt": h.failcnt} for h in stats.hugetlb},
        "intel_rdt": {},
        "network_interfaces": None,
    }


_BLKIO_NAMES = {
    "io_queued": "ioQueueRecursive",
    "io_service_time": "ioServiceTimeRecursive",
    "io_wait_time": "ioWaitTimeRecursive",
    "io_merged": "ioMergedRecursive",
    "time": "ioTimeRecursive",
    "sectors": "sectorsRecursive",
}


def _cpuset(cpuset: CpusetStats | None) -> dict[str, Any]:
    if cpuset is None:
        return {}
    return {"cpus": list(cpuset.cpus), "mems": list(cpuset.mems), **cpuset.numbers}


def _pressure(pressure: Pressure | None) -> dict[str, Any]:
    """Where the kernel measures how long tasks waited; nothing elsewhere."""
    if pressure is None:
        return {}
    lines = (("some", pressure.some), ("full", pressure.full))
    return {
        "psi": {
            name: {"avg10": line.avg10, "avg60": line.avg60, "avg300": line.avg300, "total": line.total_us}
            for name, line in lines
        }
    }


def _entry(entry: MemoryEntry) -> dict[str, int]:
    return {"limit": entry.limit, "usage": entry.usage, "max": entry.max, "failcnt": entry.failcnt}


def _blkio(entry: BlkioEntry) -> dict[str, Any]:
    return {"major": entry.major, "minor": entry.minor, "op": entry.op, "value": entry.value}
