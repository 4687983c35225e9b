"""`rorqual container inspect`."""

from __future__ import annotations

from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.formats import INSPECT_FORMAT
from rorqual.cli.inspection import inspect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    def fetch(name: str) -> bytes:
        return context.client.containers.inspect_raw(name, size=flags.boolean("size"))

    return inspect(args, fetch, flags.string("format"))


COMMAND = Command(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Display detailed information on one or more containers",
    run,
    flags=(
        INSPECT_FORMAT,
        ("size", "s", "bool", False, "Display total file sizes"),
    ),
    args=AT_LEAST_ONE,
)
