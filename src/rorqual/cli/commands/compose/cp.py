"""`rorqual compose cp`."""

from __future__ import annotations

from rorqual.cli.command import TWO_ARGS, Command, Context
from rorqual.cli.commands.compose import delegating, loading
from rorqual.cli.commands.container.cp import split_argument
from rorqual.cli.errors import CommandError
from rorqual.cli.flags import Values
from rorqual.compose import observe


def run(context: Context, flags: Values, args: list[str]) -> int:
    source, target = split_argument(args[0]), split_argument(args[1])
    if source[0] and target[0]:
        raise CommandError("copying between services is not supported")
    if not source[0] and not target[0]:
        raise CommandError("unknown copy direction")
    service = source[0] or target[0]
    seen = loading.container(context, service, flags.integer("index"), running=False)
    found = [seen]
    if target[0] and not flags.integer("index"):
        # Into a service: into each of its containers.
        of = loading.known(context)
        every = observe.everything(context.client, of.name, services=[service])
        found = [other for other in every if flags.boolean("all") or not other.one_off]
    argv = [f"--{name}" for name in ("archive", "follow-link") if flags.boolean(name)]
    code = 0
    for other in found:
        ends = [f"{other.id}:{path}" if name else path for name, path in (source, target)]
        code = delegating.to(context, "cp", [*argv, "--", *ends]) or code
    return code


COMMAND = Command(
    "[OPTIONS] SERVICE:SRC_PATH DEST_PATH|-\n        rorqual compose cp [OPTIONS] SRC_PATH|- SERVICE:DEST_PATH",
    "Copy files/folders between a service container and the local filesystem",
    run,
    flags=(
        ("all", "", "bool", False, "Include containers created by the run command"),
        ("archive", "a", "bool", False, "Archive mode (copy all uid/gid information)"),
        ("follow-link", "L", "bool", False, "Always follow symbol link in SRC_PATH"),
        ("index", "", "int", 0, "Index of the container if service has multiple replicas"),
    ),
    args=TWO_ARGS,
)
