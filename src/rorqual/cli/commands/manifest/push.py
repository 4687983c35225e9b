"""`rorqual manifest push`."""

from __future__ import annotations

import base64

from rorqual.cli.command import ONE_ARG, Command, Context
from rorqual.cli.commands.manifest import entries
from rorqual.cli.commands.manifest.drafts import Drafts
from rorqual.cli.commands.manifest.remote import Registry
from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values
    from rorqual.oci.reference import Reference


def run(context: Context, flags: Values, args: list[str]) -> None:
    index = entries.parsed(args[0])
    drafts = Drafts(context)
    found = drafts.manifests(index)
    if not found:
        raise CommandError(f"No such manifest: {index}")
    raw, media_type = entries.index_of(found)
    registry = entries.registry_of(context, index, insecure=flags.boolean("insecure"))
    for entry in found:
        _bring(context, registry, index, entry)
    digest = registry.put(index.path, index.tag or "", raw, media_type)
    context.out(digest)
    if flags.boolean("purge"):
        drafts.remove(index)


def _bring(context: Context, registry: Registry, index: Reference, entry: dict[str, Any]) -> None:
    """Makes a manifest of another repository of the same registry one of the index's. Raises: CommandError."""
    from rorqual.oci.reference import parse

    source = parse(entry["Ref"])
    if source.name == index.name:
        return
    if source.domain != index.domain:
        raise CommandError("cannot use source images from a different registry than the target image: "
                           f"{source.domain} != {index.domain}")  # fmt: skip
    document = entry.get("OCIManifest") or entry["SchemaV2Manifest"]
    for blob in (document["config"], *document["layers"]):
        registry.mount(index.path, blob["digest"], source.path)
    descriptor = entry["Descriptor"]
    registry.put(index.path, descriptor["digest"], base64.b64decode(entry["Raw"]), descriptor["mediaType"])
    context.out(f"Pushed ref {index.name}@{descriptor['digest']} with digest: {descriptor['digest']}")


COMMAND = Command(
    "[OPTIONS] MANIFEST_LIST",
    "Push a manifest list to a repository",
    run,
    flags=(
        ("insecure", "", "bool", False, "Allow push to an insecure registry"),
        ("purge", "p", "bool", False, "Remove the local manifest list after push"),
    ),
    args=ONE_ARG,
)
