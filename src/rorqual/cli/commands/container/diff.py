"""`rorqual diff`."""

from __future__ import annotations

from rorqual.cli.command import ONE_ARG, Command, Context
from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values

_KINDS = {0: "C", 1: "A", 2: "D"}


def run(context: Context, flags: Values, args: list[str]) -> None:
    if not args[0]:
        raise CommandError("Container name cannot be empty")
    for change in context.client.containers.changes(args[0]):
        context.out(f"{_KINDS.get(change['Kind'], '?')} {change['Path']}")


COMMAND = Command(
    "CONTAINER",
    "Inspect changes to files or directories on a container's filesystem",
    run,
    args=ONE_ARG,
    aliases="container diff, diff",
)
