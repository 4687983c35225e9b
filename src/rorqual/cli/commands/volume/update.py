"""`rorqual volume update`."""

from __future__ import annotations

from rorqual.cli.command import AT_MOST_ONE, Command, Context
from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    """Only a cluster's volumes can be changed, and an engine outside a swarm has none."""
    volume = context.client.volumes.inspect(args[0] if args else "")
    if not volume.get("ClusterVolume"):
        raise CommandError("can only update cluster volumes")
    raise CommandError("cluster volumes cannot be updated here")


COMMAND = Command(
    "[OPTIONS] [VOLUME]",
    "Update a volume (cluster volumes only)",
    run,
    flags=(
        (
            "availability",
            "",
            "string",
            "active",
            'Cluster Volume availability ("active", "pause", "drain") (default "active")',
        ),
    ),
    args=AT_MOST_ONE,
)
