"""`rorqual compose stop`."""

from __future__ import annotations

from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.commands.compose import loading
from rorqual.cli.flags import Values
from rorqual.compose import observe


def run(context: Context, flags: Values, args: list[str]) -> None:
    of = loading.known(context)
    loading.check_services(of, args)
    with loading.progress(context, "Stopping") as shown:
        executor = loading.executor(context, of, shown, timeout_s=loading.timeout(flags))
        executor.stop(observe.containers(context.client, of.name, services=args))


COMMAND = Command(
    "[OPTIONS] [SERVICE...]",
    "Stop services",
    run,
    flags=(("timeout", "t", "int", 0, "Specify a shutdown timeout in seconds"),),
    args=ANY_ARGS,
)
