"""`rorqual pause`."""

from __future__ import annotations

from rorqual.cli.command import AT_LEAST_ONE, Command, Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    return context.each(args, context.client.containers.pause)


COMMAND = Command(
    "CONTAINER [CONTAINER...]",
    "Pause all processes within one or more containers",
    run,
    args=AT_LEAST_ONE,
    aliases="container pause, pause",
)
