"""`rorqual swarm leave`."""

from __future__ import annotations

from rorqual.cli.command import Command, Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    context.client.swarm.leave(force=flags.boolean("force"))
    context.out("Node left the swarm.")


COMMAND = Command(
    "[OPTIONS]",
    "Leave the swarm",
    run,
    flags=(("force", "f", "bool", False, "Force this node to leave the swarm, ignoring warnings"),),
)
