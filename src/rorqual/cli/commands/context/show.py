"""`rorqual context show`."""

from __future__ import annotations

from rorqual.cli.command import Command, Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    context.out(context.contexts.current())


COMMAND = Command("", "Print the name of the current context", run)
