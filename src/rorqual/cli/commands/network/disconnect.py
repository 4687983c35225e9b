"""`rorqual network disconnect`."""

from __future__ import annotations

from rorqual.cli.command import TWO_ARGS, Command, Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    context.client.networks.disconnect(args[0], args[1], force=flags.boolean("force"))


COMMAND = Command(
    "[OPTIONS] NETWORK CONTAINER",
    "Disconnect a container from a network",
    run,
    flags=(("force", "f", "bool", False, "Force the container to disconnect from a network"),),
    args=TWO_ARGS,
)
