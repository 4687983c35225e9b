"""`rorqual context inspect`."""

from __future__ import annotations

import json

from rorqual.cli import contexts
from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.formats import INSPECT_FORMAT
from rorqual.cli.inspection import inspect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values
    from rorqual.cli.gotemplate import Object


def run(context: Context, flags: Values, args: list[str]) -> int:
    store = context.contexts

    def fetch(name: str) -> bytes:
        stored = store.get(name)
        default = stored.name == contexts.DEFAULT
        where = ("<IN MEMORY>",) * 2 if default else (store.meta_directory(name), store.tls_directory(name))
        shown = {
            **stored.meta,
            "TLSMaterial": {"docker": list(stored.tls)} if stored.tls else {},
            "Storage": dict(zip(("MetadataPath", "TLSPath"), where, strict=True)),
        }
        return json.dumps(shown).replace("<", "\\u003c").replace(">", "\\u003e").encode()

    return inspect(args or [store.current()], fetch, flags.string("format"), _typed)


def _typed(data: bytes) -> Object:
    """What Go's templates see: the stored metadata are a struct of their own, whose fields are the whole's too."""
    from rorqual.cli.gotemplate.structs import GoStruct

    whole = json.loads(data)
    described, storage = whole["Metadata"], whole["Storage"]
    more = {key: value for key, value in described.items() if key != "Description"}
    about = {"Description": described.get("Description", ""), "AdditionalFields": more}
    promoted = {
        "Name": whole["Name"],
        "Metadata": GoStruct("command.DockerContext", about, described, seen_as="interface {}"),
        "Endpoints": {
            name: GoStruct("context.EndpointMetaBase", endpoint, endpoint, seen_as="interface {}")
            for name, endpoint in whole["Endpoints"].items()
        },
    }
    fields = {
        "Metadata": GoStruct("store.Metadata", promoted, {name: whole[name] for name in promoted}),
        "TLSMaterial": whole["TLSMaterial"],
        "Storage": GoStruct("store.StorageInfo", storage, storage),
    }
    return GoStruct("context.contextWithTLSListing", fields, whole, promoted=promoted)


COMMAND = Command(
    "[OPTIONS] [CONTEXT] [CONTEXT...]",
    "Display detailed information on one or more contexts",
    run,
    flags=(INSPECT_FORMAT,),
    args=ANY_ARGS,
)
