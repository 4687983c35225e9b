"""`rorqual run`: create, attach, wait, start, in this order, so that no output and no exit code is missed."""

from __future__ import annotations

from rorqual import errdefs
from rorqual.cli import offered, starting, terminal
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
    return starting.attached(
        context, id, body, keys, start=lambda: _start(context, id), proxy=flags.boolean("sig-proxy")
    )


def _is_engines(error: BaseException) -> bool:
    return isinstance(error, errdefs.Error) and not isinstance(error, CommandError)


def _failure(message: str, code: int) -> Exit:
    return Exit(code, f"{PROGRAM}: {message}\n\nRun '{PROGRAM} run --help' for more information")


def _start(context: Context, id: str) -> None:
    try:
        context.client.containers.start(id)
    except errdefs.Error as e:
        raise _failure(error_text(e), starting.start_exit_code(str(e))) from e


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
