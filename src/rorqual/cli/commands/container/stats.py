"""`rorqual stats`: a thread per container reads its stream; the table is redrawn twice a second."""

from __future__ import annotations

import os
import sys
import threading
import time

from rorqual import errdefs
from rorqual.cli import units
from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.errors import Exit
from rorqual.cli.formats import LIST_FORMAT
from rorqual.cli.render import error_text
from rorqual.cli.table import Listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values

    JSON = dict[str, Any]

REDRAW_EVERY_S = 0.5
DISCOVER_EVERY_S = 2.0
FIRST_FOR_S = 5.0  # for a container's first numbers, before the first table is shown
_HEADERS = {
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
_JSON_FIELDS = ("BlockIO", "CPUPerc", "Container", "ID", "MemPerc", "MemUsage", "Name", "NetIO", "PIDs")
_PENDING = "--"


class Sample:
    """What is shown of one container; `values` is empty before its first numbers, which `heard` tells of."""

    __slots__ = ("container", "error", "heard", "values")

    def __init__(self, container: str) -> None:
        self.container = container
        self.values: dict[str, str] = {}
        self.error: errdefs.Error | None = None
        self.heard = threading.Event()

    def field(self, name: str, full: bool) -> str:
        if name not in _HEADERS:
            raise KeyError(name)
        if name == "Container":
            return self.container
        if name == "ID":
            id = self.values.get("ID", self.container)
            return id if full else id[:12]
        if name in ("MemUsage", "NetIO", "BlockIO"):
            return self.values.get(name, f"{_PENDING} / {_PENDING}")
        return self.values.get(name, _PENDING)


def compute(stats: JSON) -> dict[str, str]:
    """The table's fields of one answer of the engine. Source: Engine API, ContainerStats."""
    memory = stats.get("memory_stats") or {}
    limit = memory.get("limit", 0)
    used = memory_used(memory)
    received = sum(n.get("rx_bytes", 0) for n in (stats.get("networks") or {}).values())
    sent = sum(n.get("tx_bytes", 0) for n in (stats.get("networks") or {}).values())
    read = written = 0
    for entry in (stats.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ():
        if entry["op"][:1] in "rR":
            read += entry["value"]
        elif entry["op"][:1] in "wW":
            written += entry["value"]
    return {
        "ID": stats.get("id", ""),
        "Name": stats.get("name", "").removeprefix("/"),
        "CPUPerc": f"{cpu_percent(stats):.2f}%",
        "MemUsage": f"{units.bytes_size(used)} / {units.bytes_size(limit)}",
        "MemPerc": f"{used / limit * 100 if limit else 0:.2f}%",
        "NetIO": f"{units.human_size(received, 3)} / {units.human_size(sent, 3)}",
        "BlockIO": f"{units.human_size(read, 3)} / {units.human_size(written, 3)}",
        "PIDs": str((stats.get("pids_stats") or {}).get("current", 0)),
    }


def cpu_percent(stats: JSON) -> float:
    cpu, before = stats.get("cpu_stats") or {}, stats.get("precpu_stats") or {}
    used = (cpu.get("cpu_usage") or {}).get("total_usage", 0) - (before.get("cpu_usage") or {}).get("total_usage", 0)
    system = cpu.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    cpus = cpu.get("online_cpus") or len((cpu.get("cpu_usage") or {}).get("percpu_usage") or ()) or 1
    return used / system * cpus * 100.0 if system > 0 and used > 0 else 0.0


def memory_used(memory: JSON) -> int:
    """Use without the page cache that can be dropped at once (cgroup v1 and v2 name it differently)."""
    usage: int = memory.get("usage", 0)
    stats = memory.get("stats") or {}
    for key in ("total_inactive_file", "inactive_file"):
        cache = stats.get(key)
        if cache is not None and cache < usage:
            return usage - int(cache)
    return usage


def run(context: Context, flags: Values, args: list[str]) -> None:
    samples: dict[str, Sample] = {}
    follow = not flags.boolean("no-stream")
    watch_all = not args
    names = args or _running(context, flags.boolean("all"))
    threads = [_follow(context, samples, name, follow) for name in names]
    format = flags.string("format") or context.config.text("statsFormat")

    def field(item: object, name: str) -> str:
        assert isinstance(item, Sample)
        return item.field(name, flags.boolean("no-trunc"))

    listing = Listing(
        "*container.statsContext",
        _HEADERS,
        _COLUMNS,
        field,
        _JSON_FIELDS,
    )
    if not follow:
        for thread in threads:
            thread.join()
        _raise_missing(samples, watch_all)
        listing.write(samples.values(), format)
        return
    _redraw(context, samples, listing, format, watch_all, flags.boolean("all"))


def _redraw(
    context: Context, samples: dict[str, Sample], listing: Listing, format: str, watch_all: bool, everything: bool
) -> None:
    is_terminal = os.isatty(1)
    discover_at = time.monotonic() + DISCOVER_EVERY_S
    for sample in tuple(samples.values()):
        sample.heard.wait(FIRST_FOR_S)
    while True:
        if not watch_all:
            _raise_missing(samples, watch_all)
        shown = [s for s in samples.values() if s.error is None]
        if is_terminal:
            sys.stdout.write("\x1b[H\x1b[J")
        listing.write(shown, format)
        sys.stdout.flush()
        if not watch_all and not shown:
            return
        time.sleep(REDRAW_EVERY_S)
        if watch_all and time.monotonic() > discover_at:
            discover_at = time.monotonic() + DISCOVER_EVERY_S
            for name in _running(context, everything):
                if name not in samples or samples[name].error is not None:
                    _follow(context, samples, name, True)


def _running(context: Context, everything: bool) -> list[str]:
    return [c["Id"][:12] for c in context.client.containers.list(all=everything)]


def _raise_missing(samples: dict[str, Sample], watch_all: bool) -> None:
    failures = [error_text(s.error) for s in samples.values() if isinstance(s.error, errdefs.NotFound)]
    if failures and not watch_all:
        raise Exit(1, "\n".join(failures))


def _follow(context: Context, samples: dict[str, Sample], name: str, stream: bool) -> threading.Thread:
    sample = samples[name] = Sample(name)
    # A connection of its own for each: a client carries one exchange at a time.
    client = context.connect(context)

    def read() -> None:
        try:
            with client:
                for stats in client.containers.stats(name, stream=stream):
                    sample.values = compute(stats)
                    sample.heard.set()
        except errdefs.Error as e:
            sample.error = e
        else:
            if stream:
                sample.error = errdefs.Cancelled(f"container {name} has stopped")
        finally:
            sample.heard.set()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


COMMAND = Command(
    "[OPTIONS] [CONTAINER...]",
    "Display a live stream of container(s) resource usage statistics",
    run,
    flags=(
        ("all", "a", "bool", False, "Show all containers (default shows just running)"),
        LIST_FORMAT,
        ("no-stream", "", "bool", False, "Disable streaming stats and only pull the first result"),
        ("no-trunc", "", "bool", False, "Do not truncate output"),
    ),
    args=ANY_ARGS,
    aliases="container stats, stats",
)
