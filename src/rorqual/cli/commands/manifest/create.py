"""`rorqual manifest create`."""

from __future__ import annotations

from rorqual.cli.command import Command, Context
from rorqual.cli.commands.manifest import entries
from rorqual.cli.commands.manifest.drafts import Drafts
from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    index = entries.parsed(args[0])
    drafts = Drafts(context)
    if drafts.manifests(index) and not flags.boolean("amend"):
        raise CommandError(f"refusing to amend an existing manifest list with no --amend flag: {index}")
    for text in args[1:]:
        reference = entries.parsed(text)
        registry = entries.registry_of(context, reference, insecure=flags.boolean("insecure"))
        found = entries.fetch(registry, reference)
        if len(found) != 1:
            raise CommandError(f"{reference} is a manifest list")
        drafts.save(index, found[0])
    context.out(f"Created manifest list {index}")


COMMAND = Command(
    "MANIFEST_LIST MANIFEST [MANIFEST...]",
    "Create a local manifest list for annotating and pushing to a registry",
    run,
    flags=(
        ("amend", "a", "bool", False, "Amend an existing manifest list"),
        ("insecure", "", "bool", False, "Allow communication with an insecure registry"),
    ),
    args=(2, None),
)
