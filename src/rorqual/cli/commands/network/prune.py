"""`rorqual network prune`."""

from __future__ import annotations

from rorqual.cli.command import Command, Context, confirm
from rorqual.cli.pruning import declined, report
from rorqual.client import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values

_QUESTION = (
    "WARNING! This will remove all custom networks not used by at least one container.\n"
    "Are you sure you want to continue?"
)


def run(context: Context, flags: Values, args: list[str]) -> None:
    if not flags.boolean("force") and not confirm(context, _QUESTION):
        raise declined("network")
    answer = context.client.networks.prune(values.merge_filters(flags.many("filter")))
    report(context, "Deleted Networks:", answer.get("NetworksDeleted"), None)


COMMAND = Command(
    "[OPTIONS]",
    "Remove all unused networks",
    run,
    flags=(
        ("filter", "", "filter", (), 'Provide filter values (e.g. "until=<timestamp>")'),
        ("force", "f", "bool", False, "Do not prompt for confirmation"),
    ),
)
