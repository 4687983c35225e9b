"""`rorqual manifest inspect`."""

from __future__ import annotations

import json

from rorqual.cli.command import Command, Context
from rorqual.cli.commands.manifest import entries
from rorqual.cli.commands.manifest.drafts import Drafts
from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    insecure, verbose = flags.boolean("insecure"), flags.boolean("verbose")
    drafts = Drafts(context)
    if len(args) == 2:
        entry = drafts.get(entries.parsed(args[0]), entries.parsed(args[1]))
        if entry is None:
            raise CommandError(f"no such manifest: {args[1]} in {args[0]}")
        _show(context, entry if verbose else entry.get("OCIManifest") or entry["SchemaV2Manifest"])
        return
    reference = entries.parsed(args[0])
    draft = drafts.manifests(reference)
    if draft:
        raw, _ = entries.index_of(draft)
        _show(context, draft if verbose else json.loads(raw))
        return
    registry = entries.registry_of(context, reference, insecure=insecure)
    if not verbose:
        _show(context, json.loads(registry.manifest(reference)[0]))
        return
    found = entries.fetch(registry, reference)
    _show(context, found[0] if len(found) == 1 else found)


def _show(context: Context, value: Any) -> None:
    context.out(json.dumps(value, indent="\t", ensure_ascii=False))


COMMAND = Command(
    "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    "Display an image manifest, or manifest list",
    run,
    flags=(
        ("insecure", "", "bool", False, "Allow communication with an insecure registry"),
        ("verbose", "v", "bool", False, "Output additional info including layers and platform"),
    ),
    args=(1, 2),
)
