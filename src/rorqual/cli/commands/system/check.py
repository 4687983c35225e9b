"""`rorqual system check`: what is wrong in the engine's store."""

from __future__ import annotations

from rorqual.cli import units
from rorqual.cli.command import Command, Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    checked = size = problems = 0
    for finding in context.client.system.check():
        if finding["kind"] == "checked":
            checked += 1
            size += finding["size"]
            continue
        problems += 1
        print(f"{finding['kind']} {finding['subject']}: {finding['problem']}", flush=True)
    if not flags.boolean("quiet"):
        noun = "problem" if problems == 1 else "problems"
        print(f"{checked} objects good ({units.human_size(size)} of blobs), {problems or 'no'} {noun}")
    return 1 if problems else 0


COMMAND = Command(
    "[OPTIONS]",
    "Check everything in the engine's store: hash blobs again, compare unpacked layers with them, look for what is\n"
    "missing and for what nothing knows. Nothing is changed. The exit status is 1 when something is wrong.",
    run,
    flags=(("quiet", "q", "bool", False, "Only print problems"),),
)
