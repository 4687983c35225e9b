"""`rorqual volume rm`."""

from __future__ import annotations

from rorqual.cli.command import AT_LEAST_ONE, Command, Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    return context.each(args, lambda name: context.client.volumes.remove(name, force=flags.boolean("force")))


COMMAND = Command(
    "[OPTIONS] VOLUME [VOLUME...]",
    "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
    run,
    flags=(("force", "f", "bool", False, "Force the removal of one or more volumes"),),
    args=AT_LEAST_ONE,
    aliases="volume rm, volume remove",
)
