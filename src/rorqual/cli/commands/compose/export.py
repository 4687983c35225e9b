"""`rorqual compose export`."""

from __future__ import annotations

from rorqual.cli.command import ONE_ARG, Command, Context
from rorqual.cli.commands.compose import delegating, loading
from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    seen = loading.container(context, args[0], flags.integer("index"), running=False)
    output = [f"--output={flags.string('output')}"] if flags.string("output") else []
    return delegating.to(context, "export", [*output, seen.id])


COMMAND = Command(
    "[OPTIONS] SERVICE",
    "Export a service container's filesystem as a tar archive",
    run,
    flags=(
        ("index", "", "int", 0, "index of the container if service has multiple replicas."),
        ("output", "o", "string", "", "Write to a file, instead of STDOUT"),
    ),
    args=ONE_ARG,
)
