"""`rorqual swarm update`."""

from __future__ import annotations

from rorqual.cli.command import Command, Context
from rorqual.cli.commands.swarm import settings
from rorqual.cli.errors import HelpWanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values


def run(context: Context, flags: Values, args: list[str]) -> None:
    if not any(flags.changed(flag[0]) for flag in COMMAND.flags):
        raise HelpWanted
    swarm = context.client.swarm
    found = swarm.inspect()
    locked = found["Spec"]["EncryptionConfig"]["AutoLockManagers"]
    spec = settings.changed(found["Spec"], flags)
    swarm.update(found["Version"]["Index"], spec)
    context.out("Swarm updated.")
    if spec["EncryptionConfig"]["AutoLockManagers"] and not locked:
        settings.say_unlock(context, swarm.unlock_key())


COMMAND = Command(
    "[OPTIONS]",
    "Update the swarm",
    run,
    flags=(
        ("autolock", "", "bool", False, "Change manager autolocking setting (true|false)"),
        *settings.FLAGS,
    ),
)
