"""`rorqual container inspect`."""

from __future__ import annotations

from rorqual.cli.inspection import inspect_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values
    from rorqual.client import Client


def fetch(client: Client, flags: Values, name: str) -> bytes:
    return client.containers.inspect_raw(name, size=flags.boolean("size"))


COMMAND = inspect_command(
    "CONTAINER",
    "Display detailed information on one or more containers",
    fetch,
    (("size", "s", "bool", False, "Display total file sizes"),),
)
