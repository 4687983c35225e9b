"""`rorqual context create`."""

from __future__ import annotations

from rorqual.cli import contexts
from rorqual.cli.command import ONE_ARG, Command, Context
from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


ENDPOINT_KEYS = """Docker endpoint config:

NAME                DESCRIPTION
from                Copy named context's Docker endpoint configuration
host                Docker endpoint on which to connect
ca                  Trust certs signed only by this CA
cert                Path to TLS certificate file
key                 Path to TLS key file
skip-tls-verify     Skip TLS certificate validation

Example:

$ rorqual context {verb} my-context --description "some description" --docker "host=tcp://myserver:2376,ca=~/ca-file,\
cert=~/cert-file,key=~/key-file\""""


def run(context: Context, flags: Values, args: list[str]) -> None:
    store, name = context.contexts, args[0]
    contexts.check_name(name)
    if name in store:
        raise CommandError(f'context "{name}" already exists')
    source = flags.string("from")
    given = flags.many("docker")
    if source or not given:
        origin = store.get(source or store.current())
        endpoint, tls = contexts.endpoint_of(given, store) if given else (origin.endpoint, origin.tls)
        default = contexts.DEFAULT_DESCRIPTION if origin.name == contexts.DEFAULT else origin.description
        description = flags.string("description") or default
    else:
        endpoint, tls = contexts.endpoint_of(given, store)
        description = flags.string("description")
    store.put(contexts.new(name, description, endpoint, tls))
    context.out(name)
    context.err(f'Successfully created context "{name}"')


COMMAND = Command(
    "[OPTIONS] CONTEXT",
    "Create a context\n\n" + ENDPOINT_KEYS.format(verb="create"),
    run,
    flags=(
        ("description", "", "string", "", "Description of the context"),
        ("docker", "", "stringToString", (), "set the docker endpoint (default [])"),
        ("from", "", "string", "", "create context from a named context"),
    ),
    args=ONE_ARG,
)
