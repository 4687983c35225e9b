"""`rorqual compose stats`."""

from __future__ import annotations

from rorqual.cli.command import AT_MOST_ONE, Command, Context
from rorqual.cli.commands.compose import delegating, loading
from rorqual.cli.flags import Values
from rorqual.cli.formats import LIST_FORMAT
from rorqual.compose import observe


def run(context: Context, flags: Values, args: list[str]) -> int:
    of = loading.known(context)
    loading.check_services(of, args)
    found = observe.everything(context.client, of.name, all=flags.boolean("all"), services=args)
    argv = [f"--{name}" for name in ("no-stream", "no-trunc") if flags.boolean(name)]
    if flags.string("format"):
        argv.append(f"--format={flags.string('format')}")
    if not found:
        return 0
    return delegating.to(context, "stats", [*argv, *(seen.name for seen in found)])


COMMAND = Command(
    "[OPTIONS] [SERVICE]",
    "Display a live stream of container(s) resource usage statistics",
    run,
    flags=(
        ("all", "a", "bool", False, "Show all containers (default shows just running)"),
        LIST_FORMAT,
        ("no-stream", "", "bool", False, "Disable streaming stats and only pull the first result"),
        ("no-trunc", "", "bool", False, "Do not truncate output"),
    ),
    args=AT_MOST_ONE,
)
