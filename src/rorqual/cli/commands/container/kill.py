"""`rorqual kill`."""

from __future__ import annotations

from rorqual.cli.command import AT_LEAST_ONE, Command, Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    return context.each(args, lambda id: context.client.containers.kill(id, flags.string("signal")))


COMMAND = Command(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Kill one or more running containers",
    run,
    flags=(("signal", "s", "string", "", "Signal to send to the container"),),
    args=AT_LEAST_ONE,
    aliases="container kill, kill",
)
