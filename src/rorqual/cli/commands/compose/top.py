"""`rorqual compose top`."""

from __future__ import annotations

from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.commands.compose import loading
from rorqual.cli.flags import Values
from rorqual.cli.table import align
from rorqual.compose import observe


def run(context: Context, flags: Values, args: list[str]) -> None:
    of = loading.known(context)
    loading.check_services(of, args)
    lines: list[str] = []
    for seen in observe.everything(context.client, of.name, services=args):
        if seen.state != "running":
            continue
        found = context.client.containers.top(seen.id)
        number = str(seen.number) if not seen.one_off else "run"
        if not lines:
            lines.append("\t".join(("SERVICE", "#", *found["Titles"])))
        lines += ["\t".join((seen.service, number, *process)) for process in found["Processes"]]
    if lines:
        context.out(align("\n".join(lines)))


COMMAND = Command("[SERVICES...]", "Display the running processes", run, args=ANY_ARGS)
