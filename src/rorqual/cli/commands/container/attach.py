"""`rorqual attach`."""

from __future__ import annotations

from rorqual.cli import starting, streams, terminal
from rorqual.cli.command import ONE_ARG, Command, Context
from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    keys = flags.string("detach-keys") or context.config.text("detachKeys")
    detach_keys = terminal.parse_detach_keys(keys)
    containers = context.client.containers
    info = containers.inspect(args[0])
    state, id = info["State"], info["Id"]
    if not state["Running"]:
        raise CommandError("You cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise CommandError("You cannot attach to a paused container, unpause it first")
    if state["Restarting"]:
        raise CommandError("You cannot attach to a restarting container, wait until it is running")
    tty = info["Config"]["Tty"]
    stdin = not flags.boolean("no-stdin") and info["Config"]["OpenStdin"]
    terminal.check_tty(not flags.boolean("no-stdin"), tty)
    waiter = starting.Waiter(context.client, id, removed=False, running=True)
    follower = starting.Follower(context, id, tty=tty, proxy=flags.boolean("sig-proxy") and not tty)
    with streams.Signals(follower.numbers) as signals:  # from before the attach on: none ends the client instead
        sock, early = containers.attach(id, stdin=stdin, detach_keys=keys)
        streamer = streams.Streamer(
            sock, early, tty=tty, stdin=0 if stdin else -1, stdout=1, stderr=1 if tty else 2, detach_keys=detach_keys
        )
        follower.run(streamer, signals)
    return waiter.result()


COMMAND = Command(
    "[OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container",
    run,
    flags=(
        ("detach-keys", "", "string", "", "Override the key sequence for detaching a container"),
        ("no-stdin", "", "bool", False, "Do not attach STDIN"),
        ("sig-proxy", "", "bool", True, "Proxy all received signals to the process (default true)"),
    ),
    args=ONE_ARG,
    aliases="container attach, attach",
)
