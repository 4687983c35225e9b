"""`rorqual node promote`."""

from __future__ import annotations

from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.commands.node.update import change_role

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    change_role(context, args, "manager")


COMMAND = Command("NODE [NODE...]", "Promote one or more nodes to manager in the swarm", run, args=AT_LEAST_ONE)
