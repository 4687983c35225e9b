"""`rorqual image inspect`."""

from __future__ import annotations

from rorqual.cli.inspection import inspect_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values
    from rorqual.client import Client


def fetch(client: Client, flags: Values, name: str) -> bytes:
    return client.images.inspect_raw(name, platform=flags.string("platform"))


COMMAND = inspect_command(
    "IMAGE",
    "Display detailed information on one or more images",
    fetch,
    (
        (
            "platform",
            "",
            "string",
            "",
            "Inspect a specific platform of the multi-platform image.\n"
            "If the image or the server is not multi-platform capable, the command will error out if the "
            "platform does not match.\n"
            "'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
        ),
    ),
)
