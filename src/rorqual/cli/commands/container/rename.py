"""`rorqual rename`."""

from __future__ import annotations

from rorqual import errdefs
from rorqual.cli.command import TWO_ARGS, Command, Context
from rorqual.cli.errors import CommandError, Exit
from rorqual.cli.render import error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    old, new = (a.strip() for a in args)
    if not old or not new:
        raise CommandError("Error: Neither old nor new names may be empty")
    try:
        context.client.containers.rename(old, new)
    except errdefs.Error as e:
        raise Exit(1, f"{error_text(e)}\nError: failed to rename container named {old}") from e


COMMAND = Command("CONTAINER NEW_NAME", "Rename a container", run, args=TWO_ARGS, aliases="container rename, rename")
