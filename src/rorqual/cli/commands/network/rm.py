"""`rorqual network rm`."""

from __future__ import annotations

from rorqual import errdefs
from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.render import error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    code = 0
    for name in args:
        try:
            context.client.networks.remove(name)
        except errdefs.NotFound as e:
            if flags.boolean("force"):
                continue
            context.err(error_text(e))
            code = 1
        except errdefs.Error as e:
            context.err(error_text(e))
            code = 1
        else:
            context.out(name)
    return code


COMMAND = Command(
    "NETWORK [NETWORK...]",
    "Remove one or more networks",
    run,
    flags=(("force", "f", "bool", False, "Do not error if the network does not exist"),),
    args=AT_LEAST_ONE,
    aliases="network rm, network remove",
)
