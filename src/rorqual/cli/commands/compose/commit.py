"""`rorqual compose commit`."""

from __future__ import annotations

from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.commands.compose import delegating, loading
from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    seen = loading.container(context, args[0], flags.integer("index"), running=False)
    argv = [f"--change={change}" for change in flags.many("change")]
    argv += [f"--{name}={flags.string(name)}" for name in ("author", "message") if flags.string(name)]
    argv.append(f"--pause={str(flags.boolean('pause')).lower()}")
    return delegating.to(context, "commit", [*argv, seen.id, *args[1:]])


COMMAND = Command(
    "[OPTIONS] SERVICE [REPOSITORY[:TAG]]",
    "Create a new image from a service container's changes",
    run,
    flags=(
        ("author", "a", "string", "", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
        ("change", "c", "list", (), "Apply Dockerfile instruction to the created image"),
        ("index", "", "int", 0, "index of the container if service has multiple replicas."),
        ("message", "m", "string", "", "Commit message"),
        ("pause", "p", "bool", True, "Pause container during commit (default true)"),
    ),
    args=AT_LEAST_ONE,
)
