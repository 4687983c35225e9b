"""`rorqual compose version`."""

from __future__ import annotations

import json

from rorqual.cli.command import NO_ARGS, Command, Context
from rorqual.cli.errors import CommandError
from rorqual.cli.flags import Values
from rorqual.version import __version__


def run(context: Context, flags: Values, args: list[str]) -> None:
    if flags.boolean("short"):
        context.out(__version__)
    elif flags.string("format") == "json":
        context.out(json.dumps({"version": f"v{__version__}"}))
    elif flags.string("format") in ("", "pretty"):
        context.out(f"Rorqual Compose version v{__version__}")
    else:
        raise CommandError(f"format value {flags.string('format')!r} could not be parsed".replace("'", '"'))


COMMAND = Command(
    "[OPTIONS]",
    "Show the Compose version information",
    run,
    flags=(
        ("format", "f", "string", "", "Format the output. Values: [pretty | json]. (Default: pretty)"),
        ("short", "", "bool", False, "Shows only Compose's version number"),
    ),
    args=NO_ARGS,
)
