"""`rorqual save`."""

from __future__ import annotations

from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.files import save_stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    save_stream(
        lambda: context.client.images.save(args, platform=flags.string("platform")),
        flags.string("output"),
        "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        "failed to save image",
    )


COMMAND = Command(
    "[OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    run,
    flags=(
        ("output", "o", "string", "", "Write to a file, instead of STDOUT"),
        (
            "platform",
            "",
            "string",
            "",
            'Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
        ),
    ),
    args=AT_LEAST_ONE,
    aliases="image save, save",
)
