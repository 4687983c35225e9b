"""`rorqual network ls`."""

from __future__ import annotations

import re

from rorqual.cli import units
from rorqual.cli.command import Command, Context
from rorqual.cli.formats import LIST_FORMAT
from rorqual.cli.table import Listing
from rorqual.client import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values

_HEADERS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}
_COLUMNS = ("ID", "Name", "Driver", "Scope")
_JSON_FIELDS = ("CreatedAt", "Driver", "ID", "IPv4", "IPv6", "Internal", "Labels", "Name", "Scope")


def created_at(text: str) -> str:
    """An RFC 3339 time as Go prints a time: `2026-11-24 06:26:24.685 +0000 UTC`."""
    base, _, rest = text.partition("T")
    match = re.fullmatch(r"(\d\d:\d\d:\d\d(?:\.\d+)?)(Z|[+-]\d\d:\d\d)", rest)
    if match is None:
        return text
    zone = "+0000 UTC" if match[2] in ("Z", "+00:00") else f"{match[2].replace(':', '')} {match[2].replace(':', '')}"
    return f"{base} {match[1]} {zone}"


def run(context: Context, flags: Values, args: list[str]) -> None:
    networks = context.client.networks.list(values.merge_filters(flags.many("filter")))
    networks.sort(key=lambda n: natural(n["Name"]))
    format, quiet = flags.string("format"), flags.boolean("quiet")
    if not format and not quiet:
        format = context.config.text("networksFormat")
    full = flags.boolean("no-trunc")

    def field(item: Any, name: str) -> object:
        if name == "ID":
            return item["Id"] if full else units.truncate_id(item["Id"])
        if name in ("Name", "Driver", "Scope"):
            return item[name]
        if name in ("IPv4", "IPv6", "Internal"):
            key = {"IPv4": "EnableIPv4", "IPv6": "EnableIPv6"}.get(name, name)
            return "true" if item.get(key) else "false"
        if name == "Labels":
            return ",".join(sorted(f"{k}={v}" for k, v in (item.get("Labels") or {}).items()))
        if name == "Label":
            return lambda label: (item.get("Labels") or {}).get(label, "")
        if name == "CreatedAt":
            return created_at(item.get("Created", ""))
        raise KeyError(name)

    if quiet and format in ("", "table"):
        for network in networks:
            context.out(str(field(network, "ID")))
        return
    Listing("*network.networkContext", _HEADERS, _COLUMNS, field, _JSON_FIELDS).write(networks, format)


def natural(text: str) -> list[tuple[int, int, str]]:
    """A key that sorts numbers in names by their value."""
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", text) if p]


COMMAND = Command(
    "[OPTIONS]",
    "List networks",
    run,
    flags=(
        ("filter", "f", "filter", (), 'Provide filter values (e.g. "driver=bridge")'),
        LIST_FORMAT,
        ("no-trunc", "", "bool", False, "Do not truncate the output"),
        ("quiet", "q", "bool", False, "Only display network IDs"),
    ),
    aliases="network ls, network list",
)
