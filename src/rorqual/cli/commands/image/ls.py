"""`rorqual images`."""

from __future__ import annotations

from rorqual.cli import units
from rorqual.cli.command import AT_MOST_ONE, Command, Context
from rorqual.cli.errors import CommandError
from rorqual.cli.formats import LIST_FORMAT
from rorqual.cli.table import Listing
from rorqual.client import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values

    JSON = dict[str, Any]

_COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size")
_COLUMNS_DIGEST = ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size")
_HEADERS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}
_JSON_FIELDS = (
    "Containers", "CreatedAt", "CreatedSince", "Digest", "ID", "Repository", "SharedSize", "Size", "Tag",
    "UniqueSize", "VirtualSize",
)  # fmt: skip


class Row:
    """One line: an image under one of its names."""

    __slots__ = ("digest", "image", "repository", "tag")

    def __init__(self, image: JSON, repository: str, tag: str, digest: str) -> None:
        self.image = image
        self.repository = repository
        self.tag = tag
        self.digest = digest


def rows_of(images: list[JSON], *, digests: bool) -> list[Row]:
    """A row for each tag (and digest, when they are wanted) of each image."""
    out: list[Row] = []
    for image in images:
        tags = [t for t in image.get("RepoTags") or () if t != "<none>:<none>"]
        named = [d for d in image.get("RepoDigests") or () if d != "<none>@<none>"]
        if not tags and not named:
            out.append(Row(image, "<none>", "<none>", "<none>"))
            continue
        by_name: dict[str, list[str]] = {}
        for reference in named:
            name, _, digest = reference.partition("@")
            by_name.setdefault(name, []).append(digest)
        tagged: dict[str, list[str]] = {}
        for reference in tags:
            name, _, tag = reference.rpartition(":")
            tagged.setdefault(name, []).append(tag)
        for name, its_tags in tagged.items():
            its_digests = by_name.pop(name, [])
            for tag in its_tags:
                shown = its_digests if digests and its_digests else ["<none>"]
                out += [Row(image, name, tag, digest) for digest in shown]
        for name, its_digests in by_name.items():
            out += [Row(image, name, "<none>", d) for d in (its_digests if digests else [""])]
    return out


class Fields:
    """The columns of one row; `truncated` False is --no-trunc."""

    __slots__ = ("_truncated",)

    def __init__(self, truncated: bool) -> None:
        self._truncated = truncated

    def get(self, item: object, name: str) -> object:
        assert isinstance(item, Row)
        image = item.image
        if name == "Repository":
            return item.repository
        if name == "Tag":
            return item.tag
        if name == "Digest":
            return item.digest
        if name == "ID":
            return units.truncate_id(image["Id"]) if self._truncated else image["Id"]
        if name == "CreatedSince":
            return units.ago(image["Created"]) if image["Created"] > 0 else "N/A"
        if name == "CreatedAt":
            return units.local_time(image["Created"]) if image["Created"] > 0 else "N/A"
        if name == "Size":
            return units.human_size(image["Size"], 3)
        if name == "VirtualSize":
            return units.human_size(image["Size"])
        if name == "Containers":
            count = image.get("Containers", -1)
            return "N/A" if count == -1 else str(count)
        if name == "SharedSize":
            shared = image.get("SharedSize", -1)
            return "N/A" if shared == -1 else units.human_size(shared)
        if name == "UniqueSize":
            shared = image.get("SharedSize", -1)
            return "N/A" if shared == -1 or image["Size"] == -1 else units.human_size(image["Size"] - shared)
        raise KeyError(name)


def run(context: Context, flags: Values, args: list[str]) -> None:
    filters = values.merge_filters(flags.many("filter"))
    if args:
        filters["reference"] = [args[0]]
    if flags.boolean("tree"):
        for flag in ("quiet", "no-trunc", "digests", "format"):
            if flags.changed(flag):
                name = "show-digest" if flag == "digests" else flag
                raise CommandError(f"--{name} is not yet supported with --tree")
        from rorqual.cli.commands.image import tree

        tree.show(context, context.client.images.list(all=flags.boolean("all"), filters=filters, manifests=True))
        return
    format = flags.string("format")
    quiet = flags.boolean("quiet")
    if not format and not quiet:
        format = context.config.text("imagesFormat")
    images = context.client.images.list(all=flags.boolean("all"), filters=filters)
    images.sort(key=lambda image: -image["Created"])
    digests = flags.boolean("digests")
    rows = rows_of(images, digests=digests or ".Digest" in format)
    fields = Fields(not flags.boolean("no-trunc"))
    if quiet and format in ("", "table"):
        for row in rows:
            context.out(str(fields.get(row, "ID")))
        return
    if digests and format.startswith("table") and format != "table" and "{{.Digest}}" not in format:
        format += "\t{{.Digest}}"
    columns = _COLUMNS_DIGEST if digests else _COLUMNS
    Listing("*formatter.imageContext", _HEADERS, columns, fields.get, _JSON_FIELDS).write(rows, format)


COMMAND = Command(
    "[OPTIONS] [REPOSITORY[:TAG]]",
    "List images",
    run,
    flags=(
        ("all", "a", "bool", False, "Show all images (default hides intermediate images)"),
        ("digests", "", "bool", False, "Show digests"),
        ("filter", "f", "filter", (), "Filter output based on conditions provided"),
        LIST_FORMAT,
        ("no-trunc", "", "bool", False, "Don't truncate output"),
        ("quiet", "q", "bool", False, "Only show image IDs"),
        ("tree", "", "bool", False, "List multi-platform images as a tree (EXPERIMENTAL)"),
    ),
    args=AT_MOST_ONE,
    aliases="image ls, image list, images",
)
