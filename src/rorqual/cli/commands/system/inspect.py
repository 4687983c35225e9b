"""`rorqual inspect`: an object of any kind; kinds are tried in Docker's order."""

from __future__ import annotations

from rorqual import errdefs
from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.errors import CommandError
from rorqual.cli.formats import INSPECT_FORMAT
from rorqual.cli.inspection import inspect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rorqual.cli.flags import Values
    from rorqual.client import Client

_TYPES = ("config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume")
_PATHS = {
    "service": "/services/{}?insertDefaults=0",
    "task": "/tasks/{}",
    "plugin": "/plugins/{}/json",
    "node": "/nodes/{}",
    "secret": "/secrets/{}",
    "config": "/configs/{}",
}
# Order in which a name without --type is looked up.
_ORDER = ("container", "image", "network", "volume", "service", "task", "node", "plugin", "secret", "config")


def run(context: Context, flags: Values, args: list[str]) -> int:
    kind = flags.string("type")
    if kind and kind not in _TYPES:
        allowed = ", ".join(f'"{t}"' for t in _TYPES)
        raise CommandError(f'unknown type: "{kind}": must be one of {allowed}')
    if flags.changed("type") and not kind:
        raise CommandError("type is empty: must be one of " + ", ".join(f'"{t}"' for t in _TYPES))
    size = flags.boolean("size")

    def fetch(name: str) -> bytes:
        if kind:
            return _fetcher(context.client, kind, size)(name)
        for candidate in _ORDER:
            try:
                return _fetcher(context.client, candidate, size)(name)
            except errdefs.Error as e:
                if not _is_elsewhere(e):
                    raise
        raise CommandError(f"Error: No such object: {name}")

    return inspect(args, fetch, flags.string("format"))


def _is_elsewhere(error: errdefs.Error) -> bool:
    """Whether the error says that the object is not of this kind, or that the kind does not exist here."""
    if isinstance(error, (errdefs.NotFound, errdefs.NotImplementedHere)):
        return True
    text = str(error)
    return "is not a swarm manager" in text or "invalid reference format" in text or "not supported" in text


def _fetcher(client: Client, kind: str, size: bool) -> Callable[[str], bytes]:
    if kind == "container":
        return lambda name: client.containers.inspect_raw(name, size=size)
    if kind == "image":
        return client.images.inspect_raw
    if kind == "network":
        return client.networks.inspect_raw
    if kind == "volume":
        return client.volumes.inspect_raw
    path = _PATHS[kind].partition("?")[0]
    return lambda name: client.request("GET", path.format(name))


COMMAND = Command(
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Return low-level information on Docker objects",
    run,
    flags=(
        INSPECT_FORMAT,
        ("size", "s", "bool", False, "Display total file sizes if the type is container"),
        ("type", "", "string", "", "Only inspect objects of the given type"),
    ),
    args=AT_LEAST_ONE,
)
