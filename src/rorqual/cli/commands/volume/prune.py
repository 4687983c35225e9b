"""`rorqual volume prune`."""

from __future__ import annotations

from rorqual.cli.command import Command, Context, confirm
from rorqual.cli.errors import CommandError
from rorqual.cli.pruning import declined, report
from rorqual.client import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values

_ANONYMOUS = (
    "WARNING! This will remove anonymous local volumes not used by at least one container.\n"
    "Are you sure you want to continue?"
)
_ALL = (
    "WARNING! This will remove all local volumes not used by at least one container.\n"
    "Are you sure you want to continue?"
)


def run(context: Context, flags: Values, args: list[str]) -> None:
    filters = values.merge_filters(flags.many("filter"))
    everything = flags.boolean("all")
    if context.client.at_least("1.42"):
        if everything:
            if "all" in filters:
                raise CommandError("conflicting options: cannot specify both --all and --filter all=1")
            filters["all"] = ["true"]
    else:
        # Engines before 1.42 always removed named volumes too.
        everything = True
    if not flags.boolean("force") and not confirm(context, _ALL if everything else _ANONYMOUS):
        raise declined("volume")
    answer = context.client.volumes.prune(filters)
    report(context, "Deleted Volumes:", answer.get("VolumesDeleted"), answer.get("SpaceReclaimed", 0))


COMMAND = Command(
    "[OPTIONS]",
    "Remove unused local volumes",
    run,
    flags=(
        ("all", "a", "bool", False, "Remove all unused volumes, not just anonymous ones"),
        ("filter", "", "filter", (), 'Provide filter values (e.g. "label=<label>")'),
        ("force", "f", "bool", False, "Do not prompt for confirmation"),
    ),
)
