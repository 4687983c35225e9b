"""`rorqual system df`."""

from __future__ import annotations

import sys

from rorqual.cli import units
from rorqual.cli.command import Command, Context
from rorqual.cli.formats import LIST_FORMAT
from rorqual.cli.table import Listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values

    JSON = dict[str, Any]

_HEADERS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_COLUMNS = ("Type", "TotalCount", "Active", "Size", "Reclaimable")
_JSON_FIELDS = ("Active", "Reclaimable", "Size", "TotalCount", "Type")


class Row:
    """One kind of object: how many, how many in use, their size and what could be won (bytes)."""

    __slots__ = ("active", "kind", "reclaimable_bytes", "size_bytes", "total", "with_share")

    def __init__(
        self, kind: str, total: int, active: int, size_bytes: int, reclaimable_bytes: int, *, with_share: bool = True
    ) -> None:
        self.kind = kind
        self.total = total
        self.active = active
        self.size_bytes = size_bytes
        self.reclaimable_bytes = reclaimable_bytes
        self.with_share = with_share

    def field(self, name: str) -> str:
        if name == "Type":
            return self.kind
        if name == "TotalCount":
            return str(self.total)
        if name == "Active":
            return str(self.active)
        if name == "Size":
            return units.human_size(self.size_bytes)
        if name == "Reclaimable":
            text = units.human_size(self.reclaimable_bytes)
            if self.with_share and self.size_bytes > 0:
                text += f" ({self.reclaimable_bytes * 100 // self.size_bytes}%)"
            return text
        raise KeyError(name)


def rows(usage: JSON) -> list[Row]:
    """The summary of an engine's disk usage."""
    images, containers = usage.get("Images") or [], usage.get("Containers") or []
    volumes, cache = usage.get("Volumes") or [], usage.get("BuildCache") or []
    layers: int = usage.get("LayersSize", 0)
    used = sum(
        i["Size"] - max(i.get("SharedSize", 0), 0) for i in images if i.get("Containers", 0) > 0 and i["Size"] != -1
    )
    alive = [c for c in containers if c["State"] in ("running", "paused", "restarting")]
    container_bytes = sum(c.get("SizeRw", 0) for c in containers)
    volume_usage = [v.get("UsageData") or {"RefCount": 0, "Size": 0} for v in volumes]
    volume_bytes = sum(max(u["Size"], 0) for u in volume_usage)
    volume_free = sum(max(u["Size"], 0) for u in volume_usage if u["RefCount"] == 0)
    cache_bytes = sum(c["Size"] for c in cache if not c.get("Shared"))
    cache_free = sum(c["Size"] for c in cache if not c.get("InUse") and not c.get("Shared"))
    active_images = sum(i.get("Containers", 0) > 0 for i in images)
    return [
        Row("Images", len(images), active_images, layers, layers - used),
        Row(
            "Containers",
            len(containers),
            len(alive),
            container_bytes,
            container_bytes - sum(c.get("SizeRw", 0) for c in alive),
        ),
        Row("Local Volumes", len(volumes), sum(u["RefCount"] > 0 for u in volume_usage), volume_bytes, volume_free),
        Row(
            "Build Cache",
            len(cache),
            sum(bool(c.get("InUse")) for c in cache),
            cache_bytes,
            cache_free,
            with_share=False,
        ),
    ]


def run(context: Context, flags: Values, args: list[str]) -> None:
    usage = context.client.system.disk_usage()
    if flags.boolean("verbose"):
        _verbose(usage)
        return

    def field(item: Any, name: str) -> object:
        return item.field(name)

    listing = Listing("*formatter.diskUsageImagesContext", _HEADERS, _COLUMNS, field, _JSON_FIELDS)
    listing.write(rows(usage), flags.string("format"))


def _verbose(usage: JSON) -> None:
    from rorqual.cli.commands.container import ls as containers
    from rorqual.cli.commands.image import ls as images
    from rorqual.cli.commands.volume import ls as volumes

    out = sys.stdout
    out.write("Images space usage:\n\n")
    image_fields = images.Fields(True)
    names = ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers")
    Listing("", images._HEADERS, names, image_fields.get, ()).write(
        images.rows_of(usage.get("Images") or [], digests=False), ""
    )
    out.write("\nContainers space usage:\n\n")
    container_fields = containers.Fields(True)
    names = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
    headers = {**containers._HEADERS, "Size": "SIZE"}

    def container_field(item: Any, name: str) -> object:
        if name == "Size":
            return units.human_size(item.get("SizeRw", 0), 3)
        return container_fields.get(item, name)

    Listing("", headers, names, container_field, ()).write(usage.get("Containers") or [], "")
    out.write("\nLocal Volumes space usage:\n\n")
    Listing("", volumes.HEADERS, ("Name", "Links", "Size"), volumes.field, ()).write(usage.get("Volumes") or [], "")
    cache = usage.get("BuildCache") or []
    total = sum(c["Size"] for c in cache if not c.get("Shared"))
    out.write(f"\nBuild cache usage: {units.human_size(total)}\n\n")
    Listing("", _CACHE_HEADERS, tuple(_CACHE_HEADERS), _cache_field, ()).write(cache, "")


_CACHE_HEADERS = {
    "ID": "CACHE ID",
    "CacheType": "CACHE TYPE",
    "Size": "SIZE",
    "CreatedSince": "CREATED",
    "LastUsedSince": "LAST USED",
    "UsageCount": "USAGE",
    "Shared": "SHARED",
}


def _cache_field(item: Any, name: str) -> object:
    if name == "ID":
        return item["ID"][:12]
    if name == "CacheType":
        return item.get("Type", "")
    if name == "Size":
        return units.human_size(item["Size"], 3)
    if name == "CreatedSince":
        return units.ago(units.parse_rfc3339(item.get("CreatedAt", "")))
    if name == "LastUsedSince":
        return units.ago(units.parse_rfc3339(item.get("LastUsedAt") or ""))
    if name == "UsageCount":
        return str(item.get("UsageCount", 0))
    if name == "Shared":
        return "true" if item.get("Shared") else "false"
    raise KeyError(name)


COMMAND = Command(
    "[OPTIONS]",
    "Show docker disk usage",
    run,
    flags=(
        LIST_FORMAT,
        ("verbose", "v", "bool", False, "Show detailed information on space usage"),
    ),
)
