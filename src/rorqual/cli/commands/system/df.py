"""`rorqual system df`."""

from __future__ import annotations

import sys

from rorqual.cli import units
from rorqual.cli.command import Command, Context
from rorqual.cli.errors import Exit
from rorqual.cli.formats import LIST_FORMAT
from rorqual.cli.table import Listing, align

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values
    from rorqual.cli.gotemplate import Object

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


_TYPES = {
    "Images": "diskUsageImagesContext",
    "Containers": "diskUsageContainersContext",
    "Local Volumes": "diskUsageVolumesContext",
    "Build Cache": "diskUsageBuilderContext",
}


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
        _verbose(usage, flags.string("format"))
        return

    def field(item: Any, name: str) -> object:
        return item.field(name)

    listing = Listing(lambda row: f"*formatter.{_TYPES[row.kind]}", _HEADERS, _COLUMNS, field, _JSON_FIELDS)
    listing.write(rows(usage), flags.string("format"))


def _verbose(usage: JSON, format: str) -> None:
    """The lists of everything that takes room, each as its own command shows it; or by one template over all four."""
    plain = format in ("", "table")
    truncated = format.startswith("table") or plain
    images, containers, volumes = _images(truncated), _containers(truncated), _volumes()
    cache = Listing("*formatter.buildCacheContext", _CACHE_HEADERS, tuple(_CACHE_HEADERS), _cache_field, _CACHE_JSON)
    items = {
        "Images": _image_rows(usage),
        "Containers": usage.get("Containers") or [],
        "Volumes": usage.get("Volumes") or [],
        "BuildCache": usage.get("BuildCache") or [],
    }
    if not plain:
        listings = {"Images": images, "Containers": containers, "Volumes": volumes, "BuildCache": cache}
        _templated({name: listings[name].objects(of_kind) for name, of_kind in items.items()}, format)
        return
    out = sys.stdout
    out.write("Images space usage:\n\n")
    images.write(items["Images"], "")
    out.write("\nContainers space usage:\n\n")
    containers.write(items["Containers"], "")
    out.write("\nLocal Volumes space usage:\n\n")
    volumes.write(items["Volumes"], "")
    total = sum(c["Size"] for c in items["BuildCache"] if not c.get("Shared"))
    out.write(f"\nBuild cache usage: {units.human_size(total)}\n\n")
    cache.write(items["BuildCache"], "")


def _templated(lists: dict[str, list[Object]], format: str) -> None:
    """One template over all of them; no end of line, and no word before an error, as Docker has it here."""
    from rorqual.cli.gotemplate import Object, TemplateError, parse
    from rorqual.cli.gotemplate.docker import FUNCTIONS, unescape

    text = "{{json .}}" if format == "json" else unescape(format.removeprefix("table").strip())
    try:
        template = parse("", text, FUNCTIONS)
    except TemplateError as e:
        raise Exit(1, f"template parsing error: {e}") from e
    try:
        whole = Object("*formatter.diskUsageContext", lambda name: lists[name], tuple(lists))
        sys.stdout.write(align(template.execute(whole)))
    except TemplateError as e:
        raise Exit(1, str(e)) from e


def _image_rows(usage: JSON) -> list[Any]:
    """Each image once, by its first name."""
    from rorqual.cli.commands.image import ls

    images = []
    for image in usage.get("Images") or []:
        tags = (image.get("RepoTags") or [])[:1]
        digests = [] if tags else (image.get("RepoDigests") or [])[:1]
        images.append({**image, "RepoTags": tags, "RepoDigests": digests})
    return list(ls.rows_of(images, digests=False))


def _images(truncated: bool) -> Listing:
    from rorqual.cli.commands.image import ls

    names = ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers")
    fields = ls.Fields(truncated)

    def field(item: Any, name: str) -> object:
        return "" if name == "Digest" else fields.get(item, name)

    return Listing("*formatter.imageContext", ls._HEADERS, names, field, ls._JSON_FIELDS)


def _containers(truncated: bool) -> Listing:
    from rorqual.cli.commands.container import ls

    fields = ls.Fields(truncated)
    names = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")

    def field(item: Any, name: str) -> object:
        if name == "Size":
            return units.human_size(item.get("SizeRw", 0), 3)
        return fields.get(item, name)

    return Listing("*formatter.ContainerContext", {**ls._HEADERS, "Size": "SIZE"}, names, field, ls._JSON_FIELDS)


def _volumes() -> Listing:
    from rorqual.cli.commands.volume import ls

    return Listing("*formatter.volumeContext", ls.HEADERS, ("Name", "Links", "Size"), ls.field, ls.JSON_FIELDS)


_CACHE_JSON = (
    "CacheType", "CreatedAt", "CreatedSince", "Description", "ID", "InUse", "LastUsedAt", "LastUsedSince", "Parent",
    "Shared", "Size", "UsageCount",
)  # fmt: skip
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
    if name in ("Shared", "InUse"):
        return "true" if item.get(name) else "false"
    if name in ("CreatedAt", "Description", "LastUsedAt", "Parent"):
        return item.get(name) or ""
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
