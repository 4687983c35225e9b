"""`rorqual context update`."""

from __future__ import annotations

from rorqual.cli import contexts
from rorqual.cli.command import ONE_ARG, Command, Context
from rorqual.cli.commands.context.create import ENDPOINT_KEYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    store, name = context.contexts, args[0]
    contexts.check_name(name)
    stored = store.get(name)
    if flags.changed("description"):
        stored.meta.setdefault("Metadata", {})["Description"] = flags.string("description")
    if flags.many("docker"):
        endpoint, stored.tls = contexts.endpoint_of(flags.many("docker"), store)
        stored.meta.setdefault("Endpoints", {})["docker"] = endpoint
    store.put(stored)
    context.out(name)
    context.err(f'Successfully updated context "{name}"')


COMMAND = Command(
    "[OPTIONS] CONTEXT",
    "Update a context\n\n" + ENDPOINT_KEYS.format(verb="update"),
    run,
    flags=(
        ("description", "", "string", "", "Description of the context"),
        ("docker", "", "stringToString", (), "set the docker endpoint (default [])"),
    ),
    args=ONE_ARG,
)
