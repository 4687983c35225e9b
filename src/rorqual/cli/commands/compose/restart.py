"""`rorqual compose restart`."""

from __future__ import annotations

from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.commands.compose import loading
from rorqual.cli.flags import Values
from rorqual.compose import observe
from rorqual.compose.observe import Seen
from rorqual.compose.parallel import each, in_order
from rorqual.compose.project import dependencies_of


def run(context: Context, flags: Values, args: list[str]) -> None:
    of = loading.known(context)
    loading.check_services(of, args)
    wanted = set(args or of.services)
    if args and not flags.boolean("no-deps"):
        # Those that want to be restarted with what they depend on.
        wanted |= {
            name
            for name, service in of.services.items()
            for other, how in dependencies_of(service).items()
            if other in args and how.get("restart")
        }
    found: dict[str, list[Seen]] = {}
    for seen in observe.containers(context.client, of.name, services=wanted):
        found.setdefault(seen.service, []).append(seen)
    with loading.progress(context, "Restarting") as shown:
        executor = loading.executor(context, of, shown, timeout_s=loading.timeout(flags))

        def one(seen: Seen) -> None:
            shown("Container", seen.name, "Restarting")
            service = of.services.get(seen.service) or {}
            context.connect(context).containers.restart(seen.id, timeout_s=executor.stop_timeout(service))
            shown("Container", seen.name, "Started")

        needs = {name: list(dependencies_of(of.services.get(name) or {})) for name in found}
        most = loading.options(context).most
        in_order(needs, lambda name: each(found[name], one, most=most), most=most)


COMMAND = Command(
    "[OPTIONS] [SERVICE...]",
    "Restart service containers",
    run,
    flags=(
        ("no-deps", "", "bool", False, "Don't restart dependent services"),
        ("timeout", "t", "int", 0, "Specify a shutdown timeout in seconds"),
    ),
    args=ANY_ARGS,
)
