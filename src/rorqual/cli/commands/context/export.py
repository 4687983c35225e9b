"""`rorqual context export`."""

from __future__ import annotations

from rorqual.cli import contexts
from rorqual.cli.command import Command, Context
from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    import os
    import sys

    data = contexts.pack(context.contexts.get(args[0]))
    target = args[1] if len(args) > 1 else f"{args[0]}.dockercontext"
    if target == "-":
        if sys.stdout.isatty():
            raise CommandError("cowardly refusing to export to a terminal, please specify a file path")
        sys.stdout.buffer.write(data)
        return
    try:
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise CommandError(f"open {target}: {(e.strerror or str(e)).lower()}") from e
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    context.err(f'Written file "{target}"')


COMMAND = Command(
    "[OPTIONS] CONTEXT [FILE|-]",
    "Export a context to a tar archive FILE or a tar stream on STDOUT.",
    run,
    args=(1, 2),
)
