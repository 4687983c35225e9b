"""`rorqual load`."""

from __future__ import annotations

import os
import sys

from rorqual.cli.command import Command, Context
from rorqual.cli.errors import CommandError
from rorqual.cli.files import read_pieces
from rorqual.cli.progress import display
from rorqual.cli.streams import write_all
from rorqual.client.engine import decode_objects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    path = flags.string("input")
    fd = 0
    if path:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as e:
            raise CommandError(f"open {path}: {(e.strerror or '').lower()}") from e
    elif os.isatty(0):
        raise CommandError("requested load from stdin, but stdin is empty")
    # Progress bars make sense only on a terminal.
    quiet = flags.boolean("quiet") or not os.isatty(1)
    try:
        response = context.client.images.load(read_pieces(fd), quiet=quiet, platform=flags.string("platform"))
        if response.headers.get("content-type", "").startswith("application/json"):
            display(decode_objects(response.chunks()), sys.stdout)
        else:
            for piece in response.chunks():
                write_all(1, memoryview(piece))
    finally:
        if fd:
            os.close(fd)


COMMAND = Command(
    "[OPTIONS]",
    "Load an image from a tar archive or STDIN",
    run,
    flags=(
        ("input", "i", "string", "", "Read from tar archive file, instead of STDIN"),
        (
            "platform",
            "",
            "string",
            "",
            'Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
        ),
        ("quiet", "q", "bool", False, "Suppress the load output"),
    ),
    aliases="image load, load",
)
