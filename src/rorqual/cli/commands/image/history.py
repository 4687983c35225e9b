"""`rorqual history`."""

from __future__ import annotations

from rorqual.cli import units
from rorqual.cli.command import ONE_ARG, Command, Context
from rorqual.cli.formats import LIST_FORMAT
from rorqual.cli.table import Listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values

    JSON = dict[str, Any]

_COLUMNS = ("ID", "CreatedSince", "CreatedBy", "Size", "Comment")
_HEADERS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
_JSON_FIELDS = ("Comment", "CreatedAt", "CreatedBy", "CreatedSince", "ID", "Size")
_BY_WIDTH = 45


class Fields:
    """The columns of one layer of the history."""

    __slots__ = ("_human", "_truncated")

    def __init__(self, *, human: bool, truncated: bool) -> None:
        self._human = human
        self._truncated = truncated

    def get(self, item: Any, name: str) -> object:
        layer: JSON = item
        if name == "ID":
            return units.truncate_id(layer["Id"]) if self._truncated else layer["Id"]
        if name == "CreatedSince":
            if not self._human:
                return self.get(item, "CreatedAt")
            return units.ago(layer["Created"]) if layer["Created"] > 0 else "N/A"
        if name == "CreatedAt":
            import time

            if layer["Created"] <= 0:
                return "N/A"
            text = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(layer["Created"]))
            return text[:-5] + "Z" if text.endswith("+0000") else f"{text[:-2]}:{text[-2:]}"
        if name == "CreatedBy":
            text = layer["CreatedBy"].replace("\t", " ")
            return units.ellipsis(text, _BY_WIDTH) if self._truncated else text
        if name == "Size":
            return units.human_size(layer["Size"], 3) if self._human else str(layer["Size"])
        if name == "Comment":
            return layer.get("Comment", "")
        raise KeyError(name)


def run(context: Context, flags: Values, args: list[str]) -> None:
    layers = context.client.images.history(args[0], platform=flags.string("platform"))
    fields = Fields(human=flags.boolean("human"), truncated=not flags.boolean("no-trunc"))
    format = flags.string("format")
    if flags.boolean("quiet") and format in ("", "table"):
        for layer in layers:
            context.out(str(fields.get(layer, "ID")))
        return
    Listing("*image.historyContext", _HEADERS, _COLUMNS, fields.get, _JSON_FIELDS).write(layers, format)


COMMAND = Command(
    "[OPTIONS] IMAGE",
    "Show the history of an image",
    run,
    flags=(
        LIST_FORMAT,
        ("human", "H", "bool", True, "Print sizes and dates in human readable format (default true)"),
        ("no-trunc", "", "bool", False, "Don't truncate output"),
        (
            "platform",
            "",
            "string",
            "",
            'Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
        ),
        ("quiet", "q", "bool", False, "Only show image IDs"),
    ),
    args=ONE_ARG,
    aliases="image history, history",
)
