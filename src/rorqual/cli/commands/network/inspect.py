"""`rorqual network inspect`."""

from __future__ import annotations

from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.formats import INSPECT_FORMAT
from rorqual.cli.inspection import inspect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    def fetch(name: str) -> bytes:
        return context.client.networks.inspect_raw(name, verbose=flags.boolean("verbose"))

    return inspect(args, fetch, flags.string("format"))


COMMAND = Command(
    "[OPTIONS] NETWORK [NETWORK...]",
    "Display detailed information on one or more networks",
    run,
    flags=(
        INSPECT_FORMAT,
        ("verbose", "v", "bool", False, "Verbose output for diagnostics"),
    ),
    args=AT_LEAST_ONE,
)
