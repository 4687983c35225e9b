"""update: change the limits of a running container."""

from __future__ import annotations

import sys

from rorqual.errdefs import InvalidArgument
from rorqual.oci.runtime import CPU, BlockIO, Memory, Pids, Resources
from rorqual.runc import container as runc
from rorqual.runc.commands.context import Context
from rorqual.runc.commands.parser import Line, expect, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OPTIONS = (
    value("resources", "r", help="file with the resources to update, or '-' for standard input"),
    value("blkio-weight", help="per cgroup weight, 10 to 1000"),
    value("cpu-period", help="CPU CFS period in usecs"),
    value("cpu-quota", help="CPU CFS quota in usecs"),
    value("cpu-burst", help="CPU CFS burst in usecs"),
    value("cpu-share", help="CPU shares (relative weight)"),
    value("cpu-rt-period", help="CPU real-time period in usecs"),
    value("cpu-rt-runtime", help="CPU real-time runtime in usecs"),
    value("cpuset-cpus", help="CPU(s) to use"),
    value("cpuset-mems", help="memory node(s) to use"),
    value("cpu-idle", help="0: default behavior, 1: SCHED_IDLE"),
    value("kernel-memory", help="(obsoleted; do not use)"),
    value("kernel-memory-tcp", help="(obsoleted; do not use)"),
    value("memory", help="memory limit in bytes"),
    value("memory-reservation", help="memory reservation in bytes"),
    value("memory-swap", help="memory + swap in bytes; -1: unlimited swap"),
    value("pids-limit", help="maximum number of pids"),
    value("l3-cache-schema", help="Intel RDT L3 cache schema"),
    value("mem-bw-schema", help="Intel RDT memory bandwidth schema"),
)


def run(line: Line, context: Context) -> int:
    expect(line, "update", 1, 1)
    made = runc.load(line.arguments[0], context.root)
    for schema, kind in (("l3-cache-schema", "CAT: l3 cache"), ("mem-bw-schema", "MBA: memory bandwidth")):
        if line.get(schema):
            raise InvalidArgument(f"Intel RDT/{kind} schema is not enabled")
    source = line.get("resources")
    if source == "-":
        made.update(sys.stdin.buffer.read())
    elif source:
        with open(source, "rb") as f:
            made.update(f.read())
    else:
        made.update(_from_options(line))
    return 0


def _from_options(line: Line) -> Resources:
    cpu: dict[str, Any] = {
        "shares": line.number("cpu-share"),
        "quota": line.number("cpu-quota"),
        "period": line.number("cpu-period"),
        "burst": line.number("cpu-burst"),
        "realtime_runtime": line.number("cpu-rt-runtime"),
        "realtime_period": line.number("cpu-rt-period"),
        "idle": line.number("cpu-idle"),
        "cpus": line.get("cpuset-cpus"),
        "mems": line.get("cpuset-mems"),
    }
    memory: dict[str, Any] = {
        "limit": _bytes(line, "memory"),
        "reservation": _bytes(line, "memory-reservation"),
        "swap": _bytes(line, "memory-swap"),
    }
    return Resources(
        cpu=CPU(**cpu),
        memory=Memory(**memory),
        pids=Pids(line.number("pids-limit")),
        block_io=BlockIO(weight=line.number("blkio-weight")),
    )


_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def _bytes(line: Line, name: str) -> int | None:
    """`512m`, `1.5GiB`, `-1`: as Docker's units.RAMInBytes, in powers of 1024. Raises: InvalidArgument."""
    text = line.get(name)
    if not text:
        return None
    if text == "-1":
        return -1
    number = text.rstrip("bBiIkKmMgGtTpP ")
    unit = text[len(number) :].strip().lower().removesuffix("b").removesuffix("i")
    try:
        return int(float(number) * 1024 ** _UNITS[unit])
    except (KeyError, ValueError, OverflowError):
        raise InvalidArgument(f"invalid value for {name}: invalid size: '{text}'") from None
