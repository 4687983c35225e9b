"""Flags that only some engines offer, refused before the engine is asked for anything else, as Docker does."""

from __future__ import annotations

from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.command import Context
    from rorqual.cli.flags import Values

WINDOWS = ("cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops")
EXPERIMENTAL = ("checkpoint", "checkpoint-dir")


def check(context: Context, flags: Values, *, windows: bool = False, experimental: bool = False) -> None:
    """Looks at the flags of that kind that were given; the engine is asked what it is when there is one.

    Raises: CommandError with a line for each flag that it does not offer.
    """
    for_windows = [name for name in WINDOWS if windows and flags.changed(name)]
    for_trial = [name for name in EXPERIMENTAL if experimental and flags.changed(name)]
    if not for_windows and not for_trial:
        return
    engine = context.client.system.version()
    system = engine.get("Os", "")
    lines = []
    if system != "windows":
        lines += [
            f'"--{name}" is only supported on a Docker daemon running on windows, '
            f"but the Docker daemon is running on {system}"
            for name in for_windows
        ]
    if not engine.get("Experimental"):
        lines += [
            f'"--{name}" is only supported on a Docker daemon with experimental features enabled' for name in for_trial
        ]
    if lines:
        raise CommandError("\n".join(lines))
