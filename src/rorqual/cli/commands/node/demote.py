"""`rorqual node demote`."""

from __future__ import annotations

from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.commands.node.update import change_role

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    change_role(context, args, "worker")


COMMAND = Command("NODE [NODE...]", "Demote one or more nodes from manager in the swarm", run, args=AT_LEAST_ONE)
