"""`rorqual search`."""

from __future__ import annotations

from rorqual.cli import units
from rorqual.cli.command import ONE_ARG, Command, Context
from rorqual.cli.table import Listing
from rorqual.client import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values

_HEADERS = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "StarCount": "STARS",
    "IsOfficial": "OFFICIAL",
    "IsAutomated": "AUTOMATED",
}
_COLUMNS = ("Name", "Description", "StarCount", "IsOfficial")
_JSON_FIELDS = ("Description", "IsAutomated", "IsOfficial", "Name", "StarCount")
_DESCRIPTION_WIDTH = 45


def run(context: Context, flags: Values, args: list[str]) -> None:
    registry, slash, _ = args[0].partition("/")
    domain = registry if slash and ("." in registry or ":" in registry or registry == "localhost") else "docker.io"
    found = context.client.images.search(
        args[0],
        limit=flags.integer("limit") or None,
        filters=values.merge_filters(flags.many("filter")),
        auth=context.config.auth_header(domain),
    )
    truncated = not flags.boolean("no-trunc")

    def field(item: Any, name: str) -> object:
        if name == "Description":
            text = item.get("description", "").replace("\n", " ").replace("\r", " ")
            return units.ellipsis(text, _DESCRIPTION_WIDTH) if truncated else text
        if name == "Name":
            return item["name"]
        if name == "StarCount":
            return str(item.get("star_count", 0))
        if name in ("IsOfficial", "IsAutomated"):
            key = "is_official" if name == "IsOfficial" else "is_automated"
            return "[OK]" if item.get(key) else ""
        raise KeyError(name)

    Listing("*search.SearchContext", _HEADERS, _COLUMNS, field, _JSON_FIELDS).write(found, flags.string("format"))


COMMAND = Command(
    "[OPTIONS] TERM",
    "Search Docker Hub for images",
    run,
    flags=(
        ("filter", "f", "filter", (), "Filter output based on conditions provided"),
        ("format", "", "string", "", "Pretty-print search using a Go template"),
        ("limit", "", "int", 0, "Max number of search results"),
        ("no-trunc", "", "bool", False, "Don't truncate output"),
    ),
    args=ONE_ARG,
)
