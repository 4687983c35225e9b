"""`rorqual volume inspect`."""

from __future__ import annotations

from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.formats import INSPECT_FORMAT
from rorqual.cli.inspection import inspect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    def fetch(name: str) -> bytes:
        return context.client.volumes.inspect_raw(name)

    return inspect(args, fetch, flags.string("format"))


COMMAND = Command(
    "[OPTIONS] VOLUME [VOLUME...]",
    "Display detailed information on one or more volumes",
    run,
    flags=(INSPECT_FORMAT,),
    args=AT_LEAST_ONE,
)
