"""`rorqual import`."""

from __future__ import annotations

import os
import sys

from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.errors import CommandError
from rorqual.cli.files import read_pieces
from rorqual.cli.progress import display

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    source = args[0]
    is_url = source.startswith(("http://", "https://"))
    query = {
        "fromSrc": source if is_url else "-",
        "repo": (args[1] if len(args) > 1 else "") or None,
        "message": flags.string("message") or None,
        "changes": flags.many("change") or None,
        "platform": flags.string("platform") or None,
    }
    if is_url:
        display(context.client.images.import_(query, None), sys.stdout)
        return
    fd = 0
    if source != "-":
        try:
            fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as e:
            raise CommandError(f"open {source}: {(e.strerror or '').lower()}") from e
    try:
        display(context.client.images.import_(query, read_pieces(fd)), sys.stdout)
    finally:
        if fd:
            os.close(fd)


COMMAND = Command(
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    "Import the contents from a tarball to create a filesystem image",
    run,
    flags=(
        ("change", "c", "list", (), "Apply Dockerfile instruction to the created image"),
        ("message", "m", "string", "", "Set commit message for imported image"),
        ("platform", "", "string", "", "Set platform if server is multi-platform capable"),
    ),
    args=AT_LEAST_ONE,
    aliases="image import, import",
)
