"""`rorqual compose ps`."""

from __future__ import annotations

import json
from typing import Any

from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.commands.compose import loading
from rorqual.cli.commands.container import ls
from rorqual.cli.errors import CommandError
from rorqual.cli.flags import Values
from rorqual.cli.formats import LIST_FORMAT
from rorqual.cli.table import Listing
from rorqual.compose import labels, observe
from rorqual.compose.observe import Seen

JSON = dict[str, Any]
_STATES = ("paused", "restarting", "removing", "running", "dead", "created", "exited")
_COLUMNS = ("Name", "Image", "Command", "Service", "RunningFor", "Status", "Ports")
_HEADERS = {
    **ls._HEADERS, "Name": "NAME", "Service": "SERVICE", "Project": "PROJECT", "Health": "HEALTH",
    "ExitCode": "EXIT CODE", "Publishers": "PUBLISHERS",
}  # fmt: skip
_FIELDS = (
    "Command", "CreatedAt", "ExitCode", "Health", "ID", "Image", "Labels", "LocalVolumes", "Mounts", "Name", "Names",
    "Networks", "Ports", "Project", "Publishers", "RunningFor", "Service", "Size", "State", "Status",
)  # fmt: skip


class Fields(ls.Fields):
    """The columns of `ps`, and Compose's."""

    __slots__ = ("_context",)

    def __init__(self, context: Context, truncated: bool) -> None:
        super().__init__(truncated)
        self._context = context

    def get(self, item: object, name: str) -> object:
        method = getattr(self, f"_{name.lower()}", None)
        if name in _HEADERS and method is not None:
            return method(item)
        return super().get(item, name)

    def _name(self, c: JSON) -> str:
        return Seen(c).name

    def _service(self, c: JSON) -> str:
        return Seen(c).service

    def _project(self, c: JSON) -> str:
        return str(c["Labels"].get(labels.PROJECT, ""))

    def _health(self, c: JSON) -> str:
        return self._healthstatus(c)

    def _exitcode(self, c: JSON) -> int:
        if c["State"] not in ("exited", "dead"):
            return 0
        return int(self._context.client.containers.inspect(c["Id"])["State"]["ExitCode"])

    def _publishers(self, c: JSON) -> list[JSON]:
        return [
            {"URL": p.get("IP", ""), "TargetPort": p["PrivatePort"], "PublishedPort": p.get("PublicPort", 0),
             "Protocol": p["Type"]}
            for p in c.get("Ports") or ()
        ]  # fmt: skip


def run(context: Context, flags: Values, args: list[str]) -> None:
    wanted = set(flags.many("status"))
    if flags.string("filter"):
        key, _, value = flags.string("filter").partition("=")
        if key != "status":
            raise CommandError(f"unknown filter {key}")
        wanted.add(value)
    if bad := wanted - set(_STATES):
        raise CommandError(f"unknown status {sorted(bad)[0]}")
    of = loading.known(context)
    loading.check_services(of, args)
    found = observe.everything(context.client, of.name, services=args)
    if wanted:
        found = [seen for seen in found if seen.state in wanted]
    elif not flags.boolean("all"):
        found = [seen for seen in found if seen.running and not seen.one_off]
    if not flags.boolean("orphans"):
        found = [seen for seen in found if seen.service in of.services or seen.service in of.disabled]
    format = flags.string("format")
    if flags.boolean("quiet"):
        for seen in found:
            context.out(seen.id)
    elif flags.boolean("services"):
        for name in dict.fromkeys(seen.service for seen in found):
            context.out(name)
    else:
        fields = Fields(context, not flags.boolean("no-trunc"))
        items = [seen.summary for seen in found]
        if format == "json":
            for item in items:
                context.out(json.dumps({name: fields.get(item, name) for name in _FIELDS}))
            return
        Listing("*formatter.ContainerContext", _HEADERS, _COLUMNS, fields.get, _FIELDS).write(items, format)


COMMAND = Command(
    "[OPTIONS] [SERVICE...]",
    "List containers",
    run,
    flags=(
        ("all", "a", "bool", False, "Show all stopped containers (including those created by the run command)"),
        ("filter", "", "string", "", "Filter services by a property (supported filters: status)"),
        LIST_FORMAT,
        ("no-trunc", "", "bool", False, "Don't truncate output"),
        ("orphans", "", "bool", True, "Include orphaned services (not declared by project) (default true)"),
        ("quiet", "q", "bool", False, "Only display IDs"),
        ("services", "", "bool", False, "Display services"),
        (
            "status",
            "",
            "stringArray",
            (),
            "Filter services by status. Values: [paused | restarting | removing | running | dead | created | exited]",
        ),
    ),
    args=ANY_ARGS,
)
