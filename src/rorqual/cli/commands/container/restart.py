"""`rorqual restart`."""

from __future__ import annotations

from rorqual.cli.command import AT_LEAST_ONE, Command, Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    timeout = flags.integer("timeout") if flags.changed("timeout") else None
    signal = flags.string("signal")
    return context.each(args, lambda id: context.client.containers.restart(id, timeout_s=timeout, signal=signal))


COMMAND = Command(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Restart one or more containers",
    run,
    flags=(
        ("signal", "s", "string", "", "Signal to send to the container"),
        ("timeout", "t", "int", 0, "Seconds to wait before killing the container"),
    ),
    args=AT_LEAST_ONE,
    aliases="container restart, restart",
    renamed={"time": "timeout"},
)
