"""`rorqual compose port`."""

from __future__ import annotations

from rorqual.cli.command import TWO_ARGS, Command, Context
from rorqual.cli.commands.compose import loading
from rorqual.cli.errors import CommandError
from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    if not args[1].isdecimal():
        raise CommandError(f"invalid port: {args[1]}")
    seen = loading.container(context, args[0], flags.integer("index"))
    protocol = flags.string("protocol").lower()
    for port in seen.summary.get("Ports") or ():
        if port["PrivatePort"] == int(args[1]) and port["Type"] == protocol and port.get("PublicPort"):
            ip = port["IP"]
            context.out(f"{f'[{ip}]' if ':' in ip else ip}:{port['PublicPort']}")
            return
    raise CommandError(f"no port {args[1]}/{protocol} for container {seen.name}")


COMMAND = Command(
    "[OPTIONS] SERVICE PRIVATE_PORT",
    "Print the public port for a port binding",
    run,
    flags=(
        ("index", "", "int", 0, "Index of the container if service has multiple replicas"),
        ("protocol", "", "string", "tcp", 'tcp or udp (default "tcp")'),
    ),
    args=TWO_ARGS,
)
