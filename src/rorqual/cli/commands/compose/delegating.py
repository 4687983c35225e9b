"""Commands of one service's container that are the container's own: they are run with its name."""

from __future__ import annotations

from rorqual.cli.command import Context
from rorqual.cli.flags import FlagSet


def to(context: Context, module: str, argv: list[str]) -> int:
    """Run a container command as if it had been typed so."""
    from rorqual.cli.main import load

    command = load(f"container.{module}")
    flags = FlagSet(command.flags, validators=command.validators, renamed=command.renamed)
    values, rest = flags.parse(argv)
    return command.run(context, values, rest) or 0
