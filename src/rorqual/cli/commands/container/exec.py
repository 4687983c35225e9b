"""`rorqual exec`."""

from __future__ import annotations

import os

from rorqual.cli import starting, streams, terminal
from rorqual.cli.command import AT_LEAST_TWO, Command, Context
from rorqual.cli.options import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    containers = context.client.containers
    tty, interactive, detach = flags.boolean("tty"), flags.boolean("interactive"), flags.boolean("detach")
    keys = flags.string("detach-keys") or context.config.text("detachKeys")
    detach_keys = terminal.parse_detach_keys(keys)
    config: dict[str, Any] = {
        "User": flags.string("user"),
        "Privileged": flags.boolean("privileged"),
        "Tty": tty,
        "Cmd": args[1:],
        "Env": environment.read_files(flags.many("env-file"), flags.many("env"), from_environment=True) or None,
        "WorkingDir": flags.string("workdir"),
        "AttachStdin": interactive and not detach,
        "AttachStdout": not detach,
        "AttachStderr": not detach,
    }
    if keys:
        config["DetachKeys"] = keys
    if not detach:
        if tty:
            containers.inspect(args[0])  # Docker's order: a container that is not there is said first
        terminal.check_tty(interactive, tty)
    size = terminal.size() if tty else (0, 0)
    if size[0]:
        config["ConsoleSize"] = list(size)
    exec_id = containers.exec_create(args[0], config)
    if detach:
        containers.exec_start_detached(exec_id, tty=tty)
        return 0
    return attached(context, exec_id, config, detach_keys)


def attached(context: Context, exec_id: str, config: dict[str, Any], detach_keys: bytes) -> int:
    """Start an exec and copy its streams until its end; its exit code."""
    containers, tty = context.client.containers, config["Tty"]
    size = tuple(config["ConsoleSize"]) if "ConsoleSize" in config else None
    sock, early = containers.exec_start(exec_id, tty=tty, console_size=size)
    streamer = streams.Streamer(
        sock,
        early,
        tty=tty,
        stdin=0 if config["AttachStdin"] else -1,
        stdout=1,
        stderr=1 if tty else 2,
        detach_keys=detach_keys,
    )
    if tty and os.isatty(1):
        from signal import SIGWINCH

        resize = starting.resizer(lambda h, w: containers.exec_resize(exec_id, h, w))
        with streams.Signals((SIGWINCH,)) as signals:
            resize()
            streamer.signals = signals
            streamer.on_signal = lambda number: resize()
            streamer.run()
    else:
        streamer.run()
    return int(containers.exec_inspect(exec_id)["ExitCode"] or 0)


COMMAND = Command(
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Execute a command in a running container",
    run,
    flags=(
        ("detach", "d", "bool", False, "Detached mode: run command in the background"),
        ("detach-keys", "", "string", "", "Override the key sequence for detaching a container"),
        ("env", "e", "list", (), "Set environment variables"),
        ("env-file", "", "list", (), "Read in a file of environment variables"),
        ("interactive", "i", "bool", False, "Keep STDIN open even if not attached"),
        ("privileged", "", "bool", False, "Give extended privileges to the command"),
        ("tty", "t", "bool", False, "Allocate a pseudo-TTY"),
        ("user", "u", "string", "", 'Username or UID (format: "<name|uid>[:<group|gid>]")'),
        ("workdir", "w", "string", "", "Working directory inside the container"),
    ),
    args=AT_LEAST_TWO,
    aliases="container exec, exec",
    validators={"env": environment.parse_env},
    interspersed=False,
)
