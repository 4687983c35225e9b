"""`rorqual run`: create, attach, wait, start, in this order, so that no output and no exit code is missed."""

from __future__ import annotations

from rorqual import errdefs
from rorqual.cli import offered, starting, streams, terminal
from rorqual.cli.command import AT_LEAST_ONE, PROGRAM, Command, Context
from rorqual.cli.errors import CommandError, Exit
from rorqual.cli.options import container
from rorqual.cli.render import error_text
from rorqual.client.errors import ConnectionFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values

    JSON = dict[str, Any]


def run(context: Context, flags: Values, args: list[str]) -> int:
    offered.check(context, flags, windows=True)
    try:
        starting.check_pull_option(flags.string("pull"))
        body = container.body(flags, args[0], args[1:])
    except CommandError as e:
        raise _failure(str(e), starting.EXIT_ENGINE) from e
    if flags.boolean("detach"):
        if flags.many("attach"):
            raise CommandError("conflicting options: cannot specify both --attach and --detach")
        body.update(AttachStdin=False, AttachStdout=False, AttachStderr=False, StdinOnce=False)
    else:
        terminal.check_tty(body["AttachStdin"], body["Tty"])
    keys = flags.string("detach-keys") or context.config.text("detachKeys")
    terminal.parse_detach_keys(keys)
    given = {entry.partition("=")[0] for entry in body["Env"]}
    body["Env"] = context.config.proxy_environment(context.client.host, given) + body["Env"]
    try:
        id = starting.create(context, flags, body)
    except ConnectionFailed as e:
        raise _failure(str(e), starting.EXIT_ENGINE) from e
    except (errdefs.Error, OSError) as e:
        raise _failure(error_text(e), starting.start_exit_code(str(e)) if _is_engines(e) else 125) from e
    if not (body["AttachStdin"] or body["AttachStdout"] or body["AttachStderr"]):
        _start(context, id)
        context.out(id)
        return 0
    return _attached(context, flags, id, body, keys)


def _is_engines(error: BaseException) -> bool:
    return isinstance(error, errdefs.Error) and not isinstance(error, CommandError)


def _failure(message: str, code: int) -> Exit:
    return Exit(code, f"{PROGRAM}: {message}\n\nRun '{PROGRAM} run --help' for more information")


def _start(context: Context, id: str) -> None:
    try:
        context.client.containers.start(id)
    except errdefs.Error as e:
        raise _failure(error_text(e), starting.start_exit_code(str(e))) from e


def _attached(context: Context, flags: Values, id: str, body: JSON, keys: str) -> int:
    client, tty = context.client, body["Tty"]
    sock, early = client.containers.attach(
        id,
        stdin=body["AttachStdin"],
        stdout=body["AttachStdout"],
        stderr=body["AttachStderr"],
        detach_keys=keys,
    )
    stderr = (1 if tty else 2) if body["AttachStderr"] else -1
    streamer = streams.Streamer(
        sock,
        early,
        tty=tty,
        stdin=0 if body["AttachStdin"] else -1,
        stdout=1 if body["AttachStdout"] else -1,
        stderr=stderr,
        detach_keys=terminal.parse_detach_keys(keys),
    )
    follower = starting.Follower(context, id, tty=tty, proxy=flags.boolean("sig-proxy"))
    with streams.Signals(follower.numbers) as signals:
        waiter = starting.Waiter(client, id, removed=body["HostConfig"]["AutoRemove"])
        try:
            _start(context, id)
        except Exit as e:
            sock.close()
            if body["HostConfig"]["AutoRemove"] and not isinstance(e.__cause__, ConnectionFailed):
                waiter.result()  # an engine that is gone may never have heard of the start
            raise
        try:
            follower.run(streamer, signals)
        except streams.Detached:
            waiter.drop()
            return 0
        return waiter.result()


COMMAND = Command(
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    run,
    flags=(
        *container.FLAGS,
        *container.CREATE_FLAGS,
        ("detach", "d", "bool", False, "Run container in background and print container ID"),
        ("detach-keys", "", "string", "", "Override the key sequence for detaching a container"),
        ("sig-proxy", "", "bool", True, "Proxy received signals to the process (default true)"),
    ),
    args=AT_LEAST_ONE,
    aliases="container run, run",
    validators=container.VALIDATORS,
    renamed=container.RENAMED,
    interspersed=False,
)
