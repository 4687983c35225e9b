"""`rorqual compose volumes`."""

from __future__ import annotations

import json

from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.commands.compose import loading
from rorqual.cli.commands.volume.ls import show
from rorqual.cli.flags import Values
from rorqual.cli.formats import LIST_FORMAT
from rorqual.compose import observe

_FIELDS = ("Driver", "Labels", "Mountpoint", "Name", "Scope")


def run(context: Context, flags: Values, args: list[str]) -> None:
    of = loading.known(context)
    loading.check_services(of, args)
    found = observe.volumes(context.client, of.name)
    if args:
        containers = observe.everything(context.client, of.name, services=args)
        used = {volume for seen in containers for volume in seen.volumes.values()}
        found = [volume for volume in found if volume["Name"] in used]
    if flags.boolean("quiet"):
        for volume in found:
            context.out(volume["Name"])
    elif flags.string("format") == "json":
        for volume in found:
            context.out(json.dumps({key: volume.get(key) for key in _FIELDS}))
    else:
        show(found, flags.string("format"))


COMMAND = Command(
    "[OPTIONS] [SERVICE...]",
    "List volumes",
    run,
    flags=(LIST_FORMAT, ("quiet", "q", "bool", False, "Only display volume names")),
    args=ANY_ARGS,
)
