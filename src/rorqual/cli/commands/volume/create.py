"""`rorqual volume create`."""

from __future__ import annotations

from rorqual.cli.command import AT_MOST_ONE, Command, Context
from rorqual.cli.errors import CommandError
from rorqual.cli.options.environment import parse_label
from rorqual.cli.options.limits import to_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values

FLAGS = (
    ("driver", "d", "string", "local", 'Specify volume driver name (default "local")'),
    ("label", "", "list", (), "Set metadata for a volume"),
    ("opt", "o", "map", (), "Set driver specific options (default map[])"),
)


def run(context: Context, flags: Values, args: list[str]) -> None:
    name = args[0] if args else ""
    if flags.string("name"):
        if name:
            raise CommandError(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg"
            )
        name = flags.string("name")
    body = {
        "Name": name,
        "Driver": flags.string("driver"),
        "DriverOpts": to_map(flags.many("opt")),
        "Labels": to_map(flags.many("label")),
    }
    context.out(context.client.volumes.create(body)["Name"])


COMMAND = Command(
    "[OPTIONS] [VOLUME]",
    "Create a volume",
    run,
    flags=(*FLAGS, ("name", "", "string", "", "Specify volume name", True)),
    args=AT_MOST_ONE,
    validators={"label": parse_label},
)
