"""`rorqual update`."""

from __future__ import annotations

from rorqual import errdefs
from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.errors import CommandError
from rorqual.cli.options.limits import parse_memory_swap, parse_restart_policy
from rorqual.cli.render import error_text
from rorqual.client.ports import parse_publish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values

# Flag -> field of the API's UpdateConfig
_FIELDS = {
    "blkio-weight": "BlkioWeight",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-rt-period": "CpuRealtimePeriod",
    "cpu-rt-runtime": "CpuRealtimeRuntime",
    "cpuset-cpus": "CpusetCpus",
    "cpuset-mems": "CpusetMems",
    "cpu-shares": "CpuShares",
    "memory": "Memory",
    "memory-reservation": "MemoryReservation",
    "memory-swap": "MemorySwap",
    "cpus": "NanoCpus",
    "pids-limit": "PidsLimit",
}


def _published(spec: str) -> str:
    """`spec` as it is. Raises: ValueError for what is no port."""
    parse_publish([spec])
    return spec


def run(context: Context, flags: Values, args: list[str]) -> int:
    body: dict[str, Any] = {field: flags._values[name] for name, field in _FIELDS.items() if flags.changed(name)}
    if flags.changed("restart"):
        body["RestartPolicy"] = parse_restart_policy(flags.string("restart"))
    publish, close = (parse_publish(flags.many(name))[1] for name in ("publish-add", "publish-rm"))
    if not body and not publish and not close:
        raise CommandError("you must provide one or more flags when using this command")
    code = 0
    warnings: list[str] = []
    for name in args:
        try:
            if publish or close:
                context.client.containers.change_ports(name, publish, close)
            answer = context.client.containers.update(name, body) if body else {}
        except errdefs.Error as e:
            context.err(error_text(e))
            code = 1
        else:
            context.out(name)
            warnings += answer.get("Warnings") or []
    for warning in warnings:
        context.out(warning)
    return code


COMMAND = Command(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Update configuration of one or more containers",
    run,
    flags=(
        (
            "blkio-weight",
            "",
            "uint16",
            0,
            "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)",
        ),
        ("cpu-period", "", "int", 0, "Limit CPU CFS (Completely Fair Scheduler) period"),
        ("cpu-quota", "", "int", 0, "Limit CPU CFS (Completely Fair Scheduler) quota"),
        ("cpu-rt-period", "", "int", 0, "Limit the CPU real-time period in microseconds"),
        ("cpu-rt-runtime", "", "int", 0, "Limit the CPU real-time runtime in microseconds"),
        ("cpu-shares", "c", "int", 0, "CPU shares (relative weight)"),
        ("cpus", "", "decimal", 0, "Number of CPUs"),
        ("cpuset-cpus", "", "string", "", "CPUs in which to allow execution (0-3, 0,1)"),
        ("cpuset-mems", "", "string", "", "MEMs in which to allow execution (0-3, 0,1)"),
        ("memory", "m", "bytes", 0, "Memory limit"),
        ("memory-reservation", "", "bytes", 0, "Memory soft limit"),
        ("memory-swap", "", "bytes", 0, "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
        ("pids-limit", "", "int", 0, "Tune container pids limit (set -1 for unlimited)"),
        ("publish-add", "", "list", (), "Publish a port of a running container to the host"),
        ("publish-rm", "", "list", (), "Close a published port of a running container"),
        ("restart", "", "string", "", "Restart policy to apply when a container exits"),
    ),
    args=AT_LEAST_ONE,
    aliases="container update, update",
    validators={"memory-swap": parse_memory_swap, "publish-add": _published, "publish-rm": _published},
)
