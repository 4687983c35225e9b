"""`rorqual volume ls`."""

from __future__ import annotations

from rorqual.cli.command import Command, Context
from rorqual.cli.formats import LIST_FORMAT
from rorqual.cli.table import Listing
from rorqual.cli.units import human_size
from rorqual.client import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from rorqual.cli.flags import Values

HEADERS = {
    "Driver": "DRIVER",
    "Name": "VOLUME NAME",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Size": "SIZE",
    "Group": "GROUP",
    "Availability": "AVAILABILITY",
    "Status": "STATUS",
}
_COLUMNS = ("Driver", "Name")
_CLUSTER_TABLE = "table {{.Name}}\t{{.Group}}\t{{.Driver}}\t{{.Availability}}\t{{.Status}}"
JSON_FIELDS = (
    "Availability", "Driver", "Group", "Labels", "Links", "Mountpoint", "Name", "Scope", "Size", "Status",
)  # fmt: skip


def field(item: Any, name: str) -> object:
    """A column of a volume. Raises: KeyError."""
    if name in ("Driver", "Name", "Scope", "Mountpoint"):
        return item.get(name, "")
    if name == "Labels":
        return ",".join(sorted(f"{k}={v}" for k, v in (item.get("Labels") or {}).items()))
    if name == "Label":
        return lambda label: (item.get("Labels") or {}).get(label, "")
    usage = item.get("UsageData") or {}
    if name == "Links":
        return str(usage["RefCount"]) if usage else "N/A"
    if name == "Size":
        return human_size(usage["Size"]) if usage else "N/A"
    if name in ("Group", "Availability", "Status"):
        # Swarm's cluster volumes have these.
        return "N/A"
    raise KeyError(name)


def run(context: Context, flags: Values, args: list[str]) -> None:
    answer = context.client.volumes.list(values.merge_filters(flags.many("filter")))
    volumes = sorted(answer.get("Volumes") or [], key=lambda v: v["Name"])
    for warning in answer.get("Warnings") or ():
        context.err(f"WARNING: {warning}")
    format, quiet = flags.string("format"), flags.boolean("quiet")
    if flags.boolean("cluster"):
        # As the stock command line: whatever else was asked for.
        volumes, format, quiet = [v for v in volumes if v.get("ClusterVolume")], _CLUSTER_TABLE, False
    if not format and not quiet:
        format = context.config.text("volumesFormat")
    if quiet and format in ("", "table"):
        for volume in volumes:
            context.out(volume["Name"])
        return
    show(volumes, format)


def show(volumes: Sequence[dict[str, Any]], format: str) -> None:
    """As a table or by a template. Raises: Exit."""
    Listing("*formatter.volumeContext", HEADERS, _COLUMNS, field, JSON_FIELDS).write(volumes, format)


COMMAND = Command(
    "[OPTIONS]",
    "List volumes",
    run,
    flags=(
        ("cluster", "", "bool", False, "Display only cluster volumes, and use cluster volume list formatting"),
        ("filter", "f", "filter", (), 'Provide filter values (e.g. "dangling=true")'),
        LIST_FORMAT,
        ("quiet", "q", "bool", False, "Only display volume names"),
    ),
    aliases="volume ls, volume list",
)
