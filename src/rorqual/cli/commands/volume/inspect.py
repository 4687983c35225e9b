"""`rorqual volume inspect`."""

from __future__ import annotations

from rorqual.cli.inspection import inspect_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values
    from rorqual.client import Client


def fetch(client: Client, flags: Values, name: str) -> bytes:
    return client.volumes.inspect_raw(name)


COMMAND = inspect_command(
    "VOLUME",
    "Display detailed information on one or more volumes",
    fetch,
)
