"""`rorqual compose unpause`."""

from __future__ import annotations

from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.commands.compose import states
from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    states.change(
        context,
        args,
        "Unpausing",
        "Unpaused",
        lambda client, seen: client.containers.unpause(seen.id),
        lambda seen: seen.state == "paused",
    )


COMMAND = Command("[SERVICE...]", "Unpause services", run, args=ANY_ARGS)
