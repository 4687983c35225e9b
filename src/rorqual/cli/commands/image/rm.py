"""`rorqual rmi`."""

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
        try:
            done = context.client.images.remove(
                name, force=force, no_prune=flags.boolean("no-prune"), platforms=flags.many("platform")
            )
        except errdefs.Error as e:
            context.err(error_text(e))
            if not (force and isinstance(e, errdefs.NotFound)):
                code = 1
            continue
        for step in done:
            if step.get("Deleted"):
                context.out(f"Deleted: {step['Deleted']}")
            else:
                context.out(f"Untagged: {step.get('Untagged', '')}")
    return code


COMMAND = Command(
    "[OPTIONS] IMAGE [IMAGE...]",
    "Remove one or more images",
    run,
    flags=(
        ("force", "f", "bool", False, "Force removal of the image"),
        ("no-prune", "", "bool", False, "Do not delete untagged parents"),
        (
            "platform",
            "",
            "strings",
            (),
            'Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
        ),
    ),
    args=AT_LEAST_ONE,
    aliases="image rm, image remove, rmi",
)
