"""`rorqual system prune`."""

from __future__ import annotations

from rorqual import errdefs
from rorqual.cli.command import Command, Context, confirm
from rorqual.cli.errors import CommandError
from rorqual.cli.pruning import declined, image_lines, report
from rorqual.cli.units import human_size
from rorqual.client import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def _question(everything: bool, volumes: bool, filters: list[tuple[str, str]]) -> str:
    items = ["all stopped containers", "all networks not used by at least one container"]
    if volumes:
        items.append("all anonymous volumes not used by at least one container")
    if everything:
        items += ["all images without at least one container associated to them", "all build cache"]
    else:
        items += ["all dangling images", "unused build cache"]
    text = "WARNING! This will remove:\n" + "".join(f"  - {item}\n" for item in items)
    if filters:
        text += "\n  Items to be pruned will be filtered with:\n"
        text += "".join(f"  - {name}={value}\n" for name, value in filters)
    return text + "\nAre you sure you want to continue?"


def run(context: Context, flags: Values, args: list[str]) -> None:
    everything, volumes = flags.boolean("all"), flags.boolean("volumes")
    given = flags.many("filter")
    if volumes and any(name == "until" for name, _ in given):
        raise CommandError('ERROR: The "until" filter is not supported with "--volumes"')
    if not flags.boolean("force") and not confirm(context, _question(everything, volumes, given)):
        raise declined("system")
    filters = values.merge_filters(given)
    client = context.client
    answer = client.containers.prune(filters)
    reclaimed: int = answer.get("SpaceReclaimed", 0)
    report(context, "Deleted Containers:", answer.get("ContainersDeleted"), None)
    report(context, "Deleted Networks:", client.networks.prune(filters).get("NetworksDeleted"), None)
    if volumes:
        answer = client.volumes.prune(filters)
        reclaimed += answer.get("SpaceReclaimed", 0)
        report(context, "Deleted Volumes:", answer.get("VolumesDeleted"), None)
    answer = client.images.prune({**filters, "dangling": ["false" if everything else "true"]})
    reclaimed += answer.get("SpaceReclaimed", 0)
    report(context, "Deleted Images:", image_lines(answer.get("ImagesDeleted")), None)
    try:
        answer = client.system.prune_build_cache({"all": True if everything else None})
    except (errdefs.NotFound, errdefs.NotImplementedHere):
        # An engine without a builder has no cache to prune.
        answer = {}
    reclaimed += answer.get("SpaceReclaimed", 0)
    report(context, "Deleted build cache objects:", answer.get("CachesDeleted"), None)
    context.out(f"Total reclaimed space: {human_size(reclaimed)}")


COMMAND = Command(
    "[OPTIONS]",
    "Remove unused data",
    run,
    flags=(
        ("all", "a", "bool", False, "Remove all unused images not just dangling ones"),
        ("filter", "", "filter", (), 'Provide filter values (e.g. "label=<key>=<value>")'),
        ("force", "f", "bool", False, "Do not prompt for confirmation"),
        ("volumes", "", "bool", False, "Prune anonymous volumes"),
    ),
)
