"""`rorqual swarm unlock-key`."""

from __future__ import annotations

from rorqual.cli.command import Command, Context
from rorqual.cli.commands.swarm import settings
from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    swarm, quiet = context.client.swarm, flags.boolean("quiet")
    if flags.boolean("rotate"):
        found = swarm.inspect()
        if not found["Spec"]["EncryptionConfig"]["AutoLockManagers"]:
            raise CommandError("cannot rotate because autolock is not turned on")
        swarm.update(found["Version"]["Index"], found["Spec"], unlock_key=True)
        if not quiet:
            context.out("Successfully rotated manager unlock key.\n")
    key = swarm.unlock_key()
    if not key:
        raise CommandError("no unlock key is set")
    if quiet:
        context.out(key)
        return
    settings.say_unlock(context, key)


COMMAND = Command(
    "[OPTIONS]",
    "Manage the unlock key",
    run,
    flags=(
        ("quiet", "q", "bool", False, "Only display token"),
        ("rotate", "", "bool", False, "Rotate unlock key"),
    ),
)
