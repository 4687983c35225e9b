"""`rorqual context use`."""

from __future__ import annotations

from rorqual.cli import contexts
from rorqual.cli.command import ONE_ARG, Command, Context
from rorqual.cli.commands.context.ls import warn_of_environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    store, name = context.contexts, args[0]
    store.get(name)
    store.use(name)
    context.out(name)
    context.err(f'Current context is now "{name}"')
    if name != contexts.DEFAULT:
        warn_of_environment(context, f'"{name}"')


COMMAND = Command("CONTEXT", "Set the current docker context", run, args=ONE_ARG)
