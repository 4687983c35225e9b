"""`rorqual manifest rm`."""

from __future__ import annotations

from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.commands.manifest import entries
from rorqual.cli.commands.manifest.drafts import Drafts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    drafts = Drafts(context)
    code = 0
    for text in args:
        if not drafts.remove(entries.parsed(text)):
            context.err(f"No such manifest: {text}")
            code = 1
    return code


COMMAND = Command(
    "MANIFEST_LIST [MANIFEST_LIST...]",
    "Delete one or more manifest lists from local storage",
    run,
    args=AT_LEAST_ONE,
)
