"""`rorqual context import`."""

from __future__ import annotations

from rorqual.cli import contexts
from rorqual.cli.command import TWO_ARGS, Command, Context
from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    import sys

    store, (name, source) = context.contexts, args
    contexts.check_name(name)
    if name in store:
        raise CommandError(f'context "{name}" already exists')
    try:
        data = sys.stdin.buffer.read() if source == "-" else contexts.read_file(source)
    except OSError as e:
        raise CommandError(f"open {source}: {(e.strerror or str(e)).lower()}") from e
    store.put(contexts.unpack(data, name))
    context.out(name)
    context.err(f'Successfully imported context "{name}"')


COMMAND = Command("CONTEXT FILE|-", "Import a context from a tar or zip file", run, args=TWO_ARGS)
