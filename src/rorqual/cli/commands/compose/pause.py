"""`rorqual compose pause`."""

from __future__ import annotations

from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.commands.compose import states
from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    states.change(
        context,
        args,
        "Pausing",
        "Paused",
        lambda client, seen: client.containers.pause(seen.id),
        lambda seen: seen.state == "running",
    )


COMMAND = Command("[SERVICE...]", "Pause services", run, args=ANY_ARGS)
