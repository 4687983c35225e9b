"""`rorqual compose scale`."""

from __future__ import annotations

from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.commands.compose import imaging, loading
from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    whole = loading.load(context)
    scale = loading.scales(args, whole)
    of = whole.selected(list(scale), dependencies=not flags.boolean("no-deps"))
    imaging.ensure(context, of)
    scale |= loading.as_there(context, of, scale)
    with loading.progress(context, "Running") as shown:
        executor = loading.executor(context, of, shown, scale=scale, recreate="never")
        executor.ensure_resources()
        executor.create()
        executor.start()


COMMAND = Command(
    "[SERVICE=REPLICAS...]",
    "Scale services",
    run,
    flags=(("no-deps", "", "bool", False, "Don't start linked services"),),
    args=AT_LEAST_ONE,
)
