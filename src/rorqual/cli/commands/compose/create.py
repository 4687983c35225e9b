"""`rorqual compose create`."""

from __future__ import annotations

from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.commands.compose import imaging, loading, up
from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    up.check(flags)
    whole = loading.load(context, args)
    of = whole.selected(args)
    scale = loading.scales(flags.many("scale"), of)
    imaging.ensure(
        context,
        of,
        pull=flags.string("pull"),
        build=flags.boolean("build"),
        no_build=flags.boolean("no-build"),
        quiet_pull=flags.boolean("quiet-pull"),
    )
    up.orphans(context, whole, remove=flags.boolean("remove-orphans"))
    with loading.progress(context, "Creating") as shown:
        up.make(context, flags, of, args, shown, scale=scale)


COMMAND = Command(
    "[OPTIONS] [SERVICE...]", "Creates containers for a service", run, flags=up.CREATE_FLAGS, args=ANY_ARGS
)
