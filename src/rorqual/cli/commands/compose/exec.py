"""`rorqual compose exec`."""

from __future__ import annotations

import os
from typing import Any

from rorqual.cli import terminal
from rorqual.cli.command import AT_LEAST_TWO, Command, Context
from rorqual.cli.commands.compose import loading
from rorqual.cli.commands.container.exec import attached
from rorqual.cli.flags import Values
from rorqual.cli.options import environment


def run(context: Context, flags: Values, args: list[str]) -> int:
    seen = loading.container(context, args[0], flags.integer("index"))
    detach = flags.boolean("detach")
    tty = not flags.boolean("no-tty") and (flags.changed("no-tty") or (os.isatty(0) and os.isatty(1))) and not detach
    if tty:
        terminal.check_tty(True, True)
    interactive = flags.boolean("interactive") and not detach
    config: dict[str, Any] = {
        "User": flags.string("user"),
        "Privileged": flags.boolean("privileged"),
        "Tty": tty,
        "Cmd": args[1:],
        "Env": flags.many("env") or None,
        "WorkingDir": flags.string("workdir"),
        "AttachStdin": interactive,
        "AttachStdout": not detach,
        "AttachStderr": not detach,
    }
    size = terminal.size() if tty else (0, 0)
    if size[0]:
        config["ConsoleSize"] = list(size)
    id = context.client.containers.exec_create(seen.id, config)
    if detach:
        context.client.containers.exec_start_detached(id, tty=False)
        return 0
    return attached(context, id, config, terminal.parse_detach_keys(context.config.text("detachKeys")))


COMMAND = Command(
    "[OPTIONS] SERVICE COMMAND [ARGS...]",
    "Execute a command in a running container",
    run,
    flags=(
        ("detach", "d", "bool", False, "Detached mode: Run command in the background"),
        ("env", "e", "stringArray", (), "Set environment variables"),
        ("index", "", "int", 0, "Index of the container if service has multiple replicas"),
        ("interactive", "i", "bool", True, "Keep STDIN open even if not attached", True),
        (
            "no-tty",
            "T",
            "bool",
            False,
            "Disable pseudo-TTY allocation. By default 'rorqual compose exec' allocates a TTY.",
        ),
        ("privileged", "", "bool", False, "Give extended privileges to the process"),
        ("tty", "t", "bool", True, "Allocate a pseudo-TTY", True),
        ("user", "u", "string", "", "Run the command as this user"),
        ("workdir", "w", "string", "", "Path to workdir directory for this command"),
    ),
    args=AT_LEAST_TWO,
    validators={"env": environment.parse_env},
    renamed={"no-TTY": "no-tty"},
    interspersed=False,
)
