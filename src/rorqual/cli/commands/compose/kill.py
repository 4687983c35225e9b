"""`rorqual compose kill`."""

from __future__ import annotations

from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.commands.compose import loading, states, up
from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    name = flags.string("signal")
    states.change(
        context,
        args,
        "Killing",
        "Killed",
        lambda client, seen: client.containers.kill(seen.id, name),
        lambda seen: seen.running and not seen.one_off,
    )
    if flags.boolean("remove-orphans"):
        up.orphans(context, loading.known(context), remove=True)


COMMAND = Command(
    "[OPTIONS] [SERVICE...]",
    "Force stop service containers",
    run,
    flags=(
        ("remove-orphans", "", "bool", False, "Remove containers for services not defined in the Compose file"),
        ("signal", "s", "string", "SIGKILL", 'SIGNAL to send to the container (default "SIGKILL")'),
    ),
    args=ANY_ARGS,
)
