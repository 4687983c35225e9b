"""`rorqual compose attach`."""

from __future__ import annotations

from rorqual.cli.command import ONE_ARG, Command, Context
from rorqual.cli.commands.compose import delegating, loading
from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    seen = loading.container(context, args[0], flags.integer("index"))
    argv = [f"--{name}={str(flags.boolean(name)).lower()}" for name in ("sig-proxy", "no-stdin")]
    if flags.string("detach-keys"):
        argv.append(f"--detach-keys={flags.string('detach-keys')}")
    return delegating.to(context, "attach", [*argv, seen.id])


COMMAND = Command(
    "[OPTIONS] SERVICE",
    "Attach local standard input, output, and error streams to a service's running container",
    run,
    flags=(
        ("detach-keys", "", "string", "", "Override the key sequence for detaching from a container."),
        ("index", "", "int", 0, "index of the container if service has multiple replicas."),
        ("no-stdin", "", "bool", False, "Do not attach STDIN"),
        ("sig-proxy", "", "bool", True, "Proxy all received signals to the process (default true)"),
    ),
    args=ONE_ARG,
)
