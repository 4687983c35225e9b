"""`rorqual compose start`."""

from __future__ import annotations

from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.commands.compose import loading
from rorqual.cli.errors import CommandError
from rorqual.cli.flags import Values
from rorqual.compose import observe


def run(context: Context, flags: Values, args: list[str]) -> None:
    of = loading.known(context).selected(args)
    there = {seen.service for seen in observe.containers(context.client, of.name)}
    for name in args or of.services:
        if name not in there and (args or of.services[name].get("scale", 1)):
            raise CommandError(f'service "{name}" has no container to start')
    with loading.progress(context, "Starting") as shown:
        executor = loading.executor(context, of, shown)
        executor.start(wait=flags.boolean("wait"), wait_timeout_s=float(flags.integer("wait-timeout")))


COMMAND = Command(
    "[SERVICE...]",
    "Start services",
    run,
    flags=(
        ("wait", "", "bool", False, "Wait for services to be running|healthy. Implies detached mode."),
        (
            "wait-timeout",
            "",
            "int",
            0,
            "Maximum duration in seconds to wait for the project to be running|healthy",
        ),
    ),
    args=ANY_ARGS,
)
