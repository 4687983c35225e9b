"""`rorqual manifest annotate`."""

from __future__ import annotations

from rorqual.cli.command import Command, Context
from rorqual.cli.commands.manifest import entries
from rorqual.cli.commands.manifest.drafts import Drafts
from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    index, manifest = entries.parsed(args[0]), entries.parsed(args[1])
    drafts = Drafts(context)
    entry = drafts.get(index, manifest)
    if entry is None:
        raise CommandError(f"manifest for image {args[1]} does not exist in {args[0]}")
    platform = entry["Descriptor"].setdefault("platform", {})
    for flag, key in (("os", "os"), ("arch", "architecture"), ("variant", "variant"), ("os-version", "os.version")):
        if flags.string(flag):
            platform[key] = flags.string(flag)
    features = list(dict.fromkeys([*(platform.get("os.features") or []), *flags.many("os-features")]))
    if features:
        platform["os.features"] = features
    drafts.save(index, entry)


COMMAND = Command(
    "[OPTIONS] MANIFEST_LIST MANIFEST",
    "Add additional information to a local image manifest",
    run,
    flags=(
        ("arch", "", "string", "", "Set architecture"),
        ("os", "", "string", "", "Set operating system"),
        ("os-features", "", "strings", (), "Set operating system feature"),
        ("os-version", "", "string", "", "Set operating system version"),
        ("variant", "", "string", "", "Set architecture variant"),
    ),
    args=(2, 2),
)
