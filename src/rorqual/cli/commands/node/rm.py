"""`rorqual node rm`."""

from __future__ import annotations

from rorqual.cli.command import AT_LEAST_ONE, Command, Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    nodes, force = context.client.nodes, flags.boolean("force")
    return context.each(args, lambda name: nodes.remove(name, force=force))


COMMAND = Command(
    "[OPTIONS] NODE [NODE...]",
    "Remove one or more nodes from the swarm",
    run,
    flags=(("force", "f", "bool", False, "Force remove a node from the swarm"),),
    args=AT_LEAST_ONE,
    aliases="node rm, node remove",
)
