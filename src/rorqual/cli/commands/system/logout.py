"""`rorqual logout`."""

from __future__ import annotations

from rorqual.cli.command import AT_MOST_ONE, Command, Context
from rorqual.cli.config import DOCKER_HUB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    server = args[0] if args else DOCKER_HUB
    if server in ("docker.io", "index.docker.io"):
        server = DOCKER_HUB
    names = [server]
    if server != DOCKER_HUB:
        # Old files keep the address with its scheme.
        host = server.removeprefix("http://").removeprefix("https://").partition("/")[0]
        names = list(dict.fromkeys([server, host, f"http://{host}", f"https://{host}"]))
    context.out(f"Removing login credentials for {server if server != DOCKER_HUB else DOCKER_HUB}")
    for name in names:
        if name in (context.config.data.get("auths") or {}) or name == names[0]:
            context.config.erase(name)


COMMAND = Command(
    "[SERVER]",
    "Log out from a registry.\nIf no server is specified, the default is defined by the daemon.",
    run,
    args=AT_MOST_ONE,
)
