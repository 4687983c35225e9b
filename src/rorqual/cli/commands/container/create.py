"""`rorqual create`."""

from __future__ import annotations

from rorqual.cli import offered, starting
from rorqual.cli.command import AT_LEAST_ONE, PROGRAM, Command, Context
from rorqual.cli.errors import CommandError, Exit
from rorqual.cli.options import container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    offered.check(context, flags, windows=True)
    try:
        starting.check_pull_option(flags.string("pull"))
        body = container.body(flags, args[0], args[1:])
    except CommandError as e:
        raise Exit(125, f"{PROGRAM}: {e}\n\nRun '{PROGRAM} create --help' for more information") from e
    given = {entry.partition("=")[0] for entry in body["Env"]}
    body["Env"] = context.config.proxy_environment(context.client.host, given) + body["Env"]
    context.out(starting.create(context, flags, body))


# Its text is another than run's, to the letter.
_PULL = (
    "pull",
    "",
    "string",
    "missing",
    'Pull image before creating ("always", "|missing", "never") (default "missing")',
)

COMMAND = Command(
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a new container",
    run,
    flags=(*container.FLAGS, *(_PULL if flag[0] == "pull" else flag for flag in container.CREATE_FLAGS)),
    args=AT_LEAST_ONE,
    aliases="container create, create",
    validators=container.VALIDATORS,
    renamed=container.RENAMED,
    interspersed=False,
)
