"""`rorqual port`."""

from __future__ import annotations

from rorqual.cli.command import Command, Context
from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def _address(binding: dict[str, str]) -> str:
    ip = binding.get("HostIp", "")
    return f"[{ip}]:{binding['HostPort']}" if ":" in ip else f"{ip}:{binding['HostPort']}"


def run(context: Context, flags: Values, args: list[str]) -> None:
    info = context.client.containers.inspect(args[0])
    ports = info["NetworkSettings"].get("Ports") or {}
    if len(args) == 1:
        lines = [f"{p} -> {_address(b)}" for p, bindings in ports.items() for b in bindings or ()]
        for line in sorted(lines, key=_natural):
            context.out(line)
        return
    port, _, protocol = args[1].partition("/")
    if not port.isdecimal() or int(port) > 65535:
        reason = "value out of range" if port.isdecimal() else "invalid syntax"
        raise CommandError(f'Error: invalid port ({port}): strconv.ParseUint: parsing "{port}": {reason}')
    bindings = ports.get(f"{port}/{protocol or 'tcp'}")
    if not bindings:
        raise CommandError(f"Error: No public port '{args[1]}' published for {args[0]}")
    for line in sorted(map(_address, bindings), key=_natural):
        context.out(line)


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Digits compare by their value, and come before all else."""
    import re

    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]


COMMAND = Command(
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    "List port mappings or a specific mapping for the container",
    run,
    args=(1, 2),
    aliases="container port, port",
)
