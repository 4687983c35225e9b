"""`rorqual swarm join-token`."""

from __future__ import annotations

from rorqual.cli.command import ONE_ARG, Command, Context
from rorqual.cli.commands.swarm import settings
from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    role, quiet = args[0], flags.boolean("quiet")
    if role not in ("worker", "manager"):
        raise CommandError(f"unknown role {role}")
    swarm = context.client.swarm
    if flags.boolean("rotate"):
        found = swarm.inspect()
        swarm.update(found["Version"]["Index"], found["Spec"], worker=role == "worker", manager=role == "manager")
        if not quiet:
            context.out(f"Successfully rotated {role} join token.\n")
    if quiet:
        context.out(swarm.inspect()["JoinTokens"][role.capitalize()])
        return
    settings.say_join(context, role)


COMMAND = Command(
    "[OPTIONS] (worker|manager)",
    "Manage join tokens",
    run,
    flags=(
        ("quiet", "q", "bool", False, "Only display token"),
        ("rotate", "", "bool", False, "Rotate join token"),
    ),
    args=ONE_ARG,
)
