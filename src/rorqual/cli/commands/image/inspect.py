"""`rorqual image inspect`."""

from __future__ import annotations

from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.formats import INSPECT_FORMAT
from rorqual.cli.inspection import inspect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    def fetch(name: str) -> bytes:
        return context.client.images.inspect_raw(name, platform=flags.string("platform"))

    return inspect(args, fetch, flags.string("format"))


COMMAND = Command(
    "[OPTIONS] IMAGE [IMAGE...]",
    "Display detailed information on one or more images",
    run,
    flags=(
        INSPECT_FORMAT,
        (
            "platform",
            "",
            "string",
            "",
            "Inspect a specific platform of the multi-platform image.\n"
            "If the image or the server is not multi-platform capable, the command will error out if the "
            "platform does not match.\n"
            "'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
        ),
    ),
    args=AT_LEAST_ONE,
)
