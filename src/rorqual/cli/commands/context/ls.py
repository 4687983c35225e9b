"""`rorqual context ls`."""

from __future__ import annotations

from rorqual.cli import contexts
from rorqual.cli.command import Command, Context
from rorqual.cli.formats import LIST_FORMAT
from rorqual.cli.table import Listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values

_HEADERS = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "DockerEndpoint": "DOCKER ENDPOINT",
    "Current": "CURRENT",
    "Error": "ERROR",
}
_COLUMNS = ("Marked", "Description", "DockerEndpoint", "Error")
_JSON_FIELDS = ("Current", "Description", "DockerEndpoint", "Error", "Name")


def run(context: Context, flags: Values, args: list[str]) -> None:
    store = context.contexts
    current = store.current()
    rows = [store.default(), *store]
    if current not in {row.name for row in rows}:
        missing = contexts.new(current, "", {}, {})
        rows = sorted([*rows, missing], key=lambda row: row.name)
    if flags.boolean("quiet"):
        for row in rows:
            context.out(row.name)
        return

    def field(row: object, name: str) -> object:
        assert isinstance(row, contexts.Stored)
        default = row.name == contexts.DEFAULT
        if name == "Description":
            return contexts.DEFAULT_DESCRIPTION if default else row.description
        if name == "Error":
            lost = not default and row.name not in store
            return f'context "{row.name}": context not found' if lost else ""
        if name == "DockerEndpoint":
            return row.endpoint.get("Host", "")
        return {
            "Name": row.name,
            "Marked": row.name + " *" * (row.name == current),
            "Current": row.name == current,
        }[name]

    listing = Listing("*formatter.clientContextContext", {**_HEADERS, "Marked": "NAME"}, _COLUMNS, field, _JSON_FIELDS)
    listing.write(rows, flags.string("format"))
    warn_of_environment(context, "a context")


def warn_of_environment(context: Context, what: str) -> None:
    """Say that DOCKER_HOST decides, whatever context was chosen."""
    if contexts.environment_host():
        context.err(
            f"Warning: DOCKER_HOST environment variable overrides the active context. To use {what}, either set the "
            "global --context flag, or unset DOCKER_HOST environment variable."
        )


COMMAND = Command(
    "[OPTIONS]",
    "List contexts",
    run,
    flags=(
        LIST_FORMAT,
        ("quiet", "q", "bool", False, "Only show context names"),
    ),
    aliases="context ls, context list",
)
