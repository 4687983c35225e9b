"""`rorqual rm`."""

from __future__ import annotations

from rorqual import errdefs
from rorqual.cli.command import AT_LEAST_ONE, Command, Context
from rorqual.cli.render import error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> int:
    force = flags.boolean("force")
    code = 0
    for name in args:
        id = name.strip("/")
        if not id:
            context.err("container name cannot be empty")
            code = 1
            continue
        try:
            context.client.containers.remove(
                id, force=force, volumes=flags.boolean("volumes"), link=flags.boolean("link")
            )
        except errdefs.NotFound as e:
            # With --force a container that is not there is what was asked for, told all the same.
            context.err(error_text(e))
            code = code if force else 1
        except errdefs.Error as e:
            context.err(error_text(e))
            code = 1
        else:
            context.out(name)
    return code


COMMAND = Command(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Remove one or more containers",
    run,
    flags=(
        ("force", "f", "bool", False, "Force the removal of a running container (uses SIGKILL)"),
        ("link", "l", "bool", False, "Remove the specified link"),
        ("volumes", "v", "bool", False, "Remove anonymous volumes associated with the container"),
    ),
    args=AT_LEAST_ONE,
    aliases="container rm, container remove, rm",
)
