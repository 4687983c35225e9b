"""`rorqual compose rm`."""

from __future__ import annotations

from rorqual.cli.command import ANY_ARGS, Command, Context, confirm
from rorqual.cli.commands.compose import loading
from rorqual.cli.flags import Values
from rorqual.compose import observe


def run(context: Context, flags: Values, args: list[str]) -> None:
    of = loading.known(context)
    loading.check_services(of, args)
    found = observe.everything(context.client, of.name, services=args)
    with loading.progress(context, "Removing") as shown:
        executor = loading.executor(context, of, shown)
        if flags.boolean("stop"):
            executor.stop(found)
            found = observe.everything(context.client, of.name, services=args)
        found = [seen for seen in found if not seen.running]
        if not found:
            context.err("No stopped containers")
            return
        names = ", ".join(seen.name for seen in found)
        if flags.boolean("force") or confirm(context, f"Going to remove {names}\nAre you sure?"):
            executor.remove(found, volumes=flags.boolean("volumes"))


COMMAND = Command(
    "[OPTIONS] [SERVICE...]",
    "Removes stopped service containers",
    run,
    flags=(
        ("all", "a", "bool", False, "Deprecated - no effect", True),
        ("force", "f", "bool", False, "Don't ask to confirm removal"),
        ("stop", "s", "bool", False, "Stop the containers, if required, before removing"),
        ("volumes", "v", "bool", False, "Remove any anonymous volumes attached to containers"),
    ),
    args=ANY_ARGS,
)
