"""`rorqual container prune`."""

from __future__ import annotations

from rorqual.cli.command import Command, Context, confirm
from rorqual.cli.pruning import declined, report
from rorqual.client import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values

WARNING = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?"


def run(context: Context, flags: Values, args: list[str]) -> None:
    if not flags.boolean("force") and not confirm(context, WARNING):
        raise declined("container")
    answer = context.client.containers.prune(values.merge_filters(flags.many("filter")))
    report(context, "Deleted Containers:", answer.get("ContainersDeleted"), answer.get("SpaceReclaimed", 0))


COMMAND = Command(
    "[OPTIONS]",
    "Remove all stopped containers",
    run,
    flags=(
        ("filter", "", "filter", (), 'Provide filter values (e.g. "until=<timestamp>")'),
        ("force", "f", "bool", False, "Do not prompt for confirmation"),
    ),
)
