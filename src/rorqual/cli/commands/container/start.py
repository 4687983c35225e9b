"""`rorqual start`."""

from __future__ import annotations

from rorqual import errdefs
from rorqual.cli import offered, starting, streams, terminal
from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.errors import CommandError, Exit
from rorqual.cli.render import error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    offered.check(context, flags, experimental=True)
    if flags.boolean("attach") or flags.boolean("interactive"):
        if len(args) > 1:
            raise CommandError("you cannot start and attach multiple containers at once")
        return _attached(context, flags, args[0])
    containers = context.client.containers
    checkpoint, directory = flags.string("checkpoint"), flags.string("checkpoint-dir")
    if checkpoint and len(args) > 1:
        raise CommandError("you cannot restore multiple containers at once")
    failed = []
    for name in args:
        try:
            containers.start(name, checkpoint=checkpoint, checkpoint_dir=directory)
        except errdefs.NotModified:
            context.out(name)
        except errdefs.Error as e:
            context.err(error_text(e))
            failed.append(name)
        else:
            context.out(name)
    if failed:
        raise Exit(1, f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def _attached(context: Context, flags: Values, name: str) -> int:
    containers = context.client.containers
    info = containers.inspect(name)
    id, config = info["Id"], info["Config"]
    tty = config["Tty"]
    keys = flags.string("detach-keys") or context.config.text("detachKeys")
    detach_keys = terminal.parse_detach_keys(keys)
    stdin = flags.boolean("interactive") and config["OpenStdin"]
    stderr = (1 if tty else 2) if config.get("AttachStderr", True) or flags.boolean("attach") else -1
    sock, early = containers.attach(id, stdin=stdin, detach_keys=keys)
    streamer = streams.Streamer(
        sock, early, tty=tty, stdin=0 if stdin else -1, stdout=1, stderr=stderr, detach_keys=detach_keys
    )
    follower = starting.Follower(context, id, tty=tty, proxy=not tty)
    with streams.Signals(follower.numbers) as signals:
        waiter = starting.Waiter(context.client, id, removed=info["HostConfig"].get("AutoRemove", False))
        try:
            containers.start(id, checkpoint=flags.string("checkpoint"), checkpoint_dir=flags.string("checkpoint-dir"))
        except errdefs.NotModified:
            # It runs already: what is attached is its present life.
            waiter.drop()
            waiter = starting.Waiter(context.client, id, removed=False, running=True)
        except errdefs.Error:
            sock.close()
            waiter.drop()
            raise
        try:
            follower.run(streamer, signals)
        except streams.Detached:
            return 0
        return waiter.result()


COMMAND = Command(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Start one or more stopped containers",
    run,
    flags=(
        ("attach", "a", "bool", False, "Attach STDOUT/STDERR and forward signals"),
        ("checkpoint", "", "string", "", "Restore from this checkpoint"),
        ("checkpoint-dir", "", "string", "", "Use a custom checkpoint storage directory"),
        ("detach-keys", "", "string", "", "Override the key sequence for detaching a container"),
        ("interactive", "i", "bool", False, "Attach container's STDIN"),
    ),
    args=AT_LEAST_ONE,
    aliases="container start, start",
)
