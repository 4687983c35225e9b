"""`rorqual export`."""

from __future__ import annotations

from rorqual.cli.command import ONE_ARG, Command, Context
from rorqual.cli.files import save_stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    save_stream(
        lambda: context.client.containers.export(args[0]),
        flags.string("output"),
        "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        "failed to export container",
    )


COMMAND = Command(
    "[OPTIONS] CONTAINER",
    "Export a container's filesystem as a tar archive",
    run,
    flags=(("output", "o", "string", "", "Write to a file, instead of STDOUT"),),
    args=ONE_ARG,
    aliases="container export, export",
)
