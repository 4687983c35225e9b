"""`rorqual builder prune`."""

from __future__ import annotations

from rorqual.cli.command import Command, Context, confirm
from rorqual.cli.pruning import declined, report
from rorqual.client import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values

_ALL = "WARNING! This will remove all build cache."
_DANGLING = "WARNING! This will remove all dangling build cache."


def run(context: Context, flags: Values, args: list[str]) -> None:
    everything = flags.boolean("all")
    question = f"{_ALL if everything else _DANGLING} Are you sure you want to continue?"
    if not flags.boolean("force") and not confirm(context, question):
        raise declined("builder")
    query: dict[str, object] = {"all": True if everything else None}
    if flags.changed("keep-storage"):
        query["keep-storage"] = flags.integer("keep-storage")
    filters = values.merge_filters(flags.many("filter"))
    if filters:
        from rorqual.client.containers import encode_filters

        query["filters"] = encode_filters(filters)
    answer = context.client.system.prune_build_cache(query)
    report(context, "Deleted build cache objects:", answer.get("CachesDeleted"), answer.get("SpaceReclaimed", 0))


COMMAND = Command(
    "",
    "Remove build cache",
    run,
    flags=(
        ("all", "a", "bool", False, "Remove all unused build cache, not just dangling ones"),
        ("filter", "", "filter", (), 'Provide filter values (e.g. "until=24h")'),
        ("force", "f", "bool", False, "Do not prompt for confirmation"),
        ("keep-storage", "", "bytes", 0, "Amount of disk space to keep for cache"),
    ),
)
