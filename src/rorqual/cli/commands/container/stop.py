"""`rorqual stop`."""

from __future__ import annotations

from rorqual import errdefs
from rorqual.cli.command import AT_LEAST_ONE, Command, Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    timeout = flags.integer("timeout") if flags.changed("timeout") else None
    signal = flags.string("signal")

    def stop(id: str) -> None:
        try:
            context.client.containers.stop(id, timeout_s=timeout, signal=signal)
        except errdefs.NotModified:
            return  # it was stopped already

    return context.each(args, stop)


COMMAND = Command(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Stop one or more running containers",
    run,
    flags=(
        ("signal", "s", "string", "", "Signal to send to the container"),
        ("timeout", "t", "int", 0, "Seconds to wait before killing the container"),
    ),
    args=AT_LEAST_ONE,
    aliases="container stop, stop",
    renamed={"time": "timeout"},
)
