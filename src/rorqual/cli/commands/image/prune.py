"""`rorqual image prune`."""

from __future__ import annotations

from rorqual.cli.command import Command, Context, confirm
from rorqual.cli.pruning import declined, image_lines, report
from rorqual.client import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values

_ALL = "WARNING! This will remove all images without at least one container associated to them."
_DANGLING = "WARNING! This will remove all dangling images."


def run(context: Context, flags: Values, args: list[str]) -> None:
    everything = flags.boolean("all")
    question = f"{_ALL if everything else _DANGLING}\nAre you sure you want to continue?"
    if not flags.boolean("force") and not confirm(context, question):
        raise declined("image")
    filters = values.merge_filters(flags.many("filter"))
    filters["dangling"] = ["false" if everything else "true"]
    answer = context.client.images.prune(filters)
    report(context, "Deleted Images:", image_lines(answer.get("ImagesDeleted")), answer.get("SpaceReclaimed", 0))


COMMAND = Command(
    "[OPTIONS]",
    "Remove unused images",
    run,
    flags=(
        ("all", "a", "bool", False, "Remove all unused images, not just dangling ones"),
        ("filter", "", "filter", (), 'Provide filter values (e.g. "until=<timestamp>")'),
        ("force", "f", "bool", False, "Do not prompt for confirmation"),
    ),
)
