"""`rorqual network inspect`."""

from __future__ import annotations

from rorqual.cli.inspection import inspect_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values
    from rorqual.client import Client


def fetch(client: Client, flags: Values, name: str) -> bytes:
    return client.networks.inspect_raw(name, verbose=flags.boolean("verbose"))


COMMAND = inspect_command(
    "NETWORK",
    "Display detailed information on one or more networks",
    fetch,
    (("verbose", "v", "bool", False, "Verbose output for diagnostics"),),
)
