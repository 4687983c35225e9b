"""`rorqual wait`."""

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
            answer = context.client.containers.wait(name)
        except errdefs.Error as e:
            context.err(error_text(e))
            code = 1
            continue
        failure = (answer.get("Error") or {}).get("Message")
        if failure:
            context.err(failure)
            code = 1
        else:
            context.out(str(answer["StatusCode"]))
    return code


COMMAND = Command(
    "CONTAINER [CONTAINER...]",
    "Block until one or more containers stop, then print their exit codes",
    run,
    args=AT_LEAST_ONE,
    aliases="container wait, wait",
)
