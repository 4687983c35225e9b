"""`rorqual swarm unlock`."""

from __future__ import annotations

import sys

from rorqual.cli.command import Command, Context
from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    # Before the key is asked for: there may be nothing to unlock.
    info = context.client.system.info()["Swarm"]
    state = info.get("LocalNodeState")
    if state == "inactive":
        raise CommandError("Error: This node is not part of a swarm")
    if state != "locked":
        raise CommandError("Error: swarm is not locked")
    context.client.swarm.unlock(_asked())


def _asked() -> str:
    """From the terminal without showing it, otherwise from standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    import getpass

    return getpass.getpass("Enter unlock key: ").strip()


COMMAND = Command("", "Unlock swarm", run)
