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

    return inspect(args or [store.current()], fetch, flags.string("format"))


COMMAND = Command(
    "[OPTIONS] [CONTEXT] [CONTEXT...]",
    "Display detailed information on one or more contexts",
    run,
    flags=(INSPECT_FORMAT,),
    args=ANY_ARGS,
)
