"""`rorqual context rm`."""

from __future__ import annotations

from rorqual.cli import contexts
from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.errors import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    store, failures = context.contexts, []
    current = store.current()
    for name in args:
        if name == contexts.DEFAULT:
            failures.append('context "default" cannot be removed')
        elif name not in store:
            if not flags.boolean("force"):
                failures.append(f'context "{name}" does not exist')
        elif name == current and not flags.boolean("force"):
            failures.append(f'context "{name}" is in use, set -f flag to force remove')
        else:
            store.remove(name)
            if context.config.text("currentContext") == name:
                store.use(contexts.DEFAULT)
            context.out(name)
    if failures:
        raise Exit(1, "\n".join(failures))
    return 0


COMMAND = Command(
    "CONTEXT [CONTEXT...]",
    "Remove one or more contexts",
    run,
    flags=(("force", "f", "bool", False, "Force the removal of a context in use"),),
    args=AT_LEAST_ONE,
    aliases="context rm, context remove",
)
