"""`rorqual compose ls`."""

from __future__ import annotations

import json
import re
from collections import Counter

from rorqual.cli.command import NO_ARGS, Command, Context
from rorqual.cli.errors import CommandError
from rorqual.cli.flags import Values
from rorqual.cli.table import align
from rorqual.compose import labels, observe


def run(context: Context, flags: Values, args: list[str]) -> None:
    if flags.string("format") not in ("table", "json"):
        raise CommandError(f"unsupported format {flags.string('format')}")
    names = []
    for key, value in flags.many("filter"):
        if key != "name":
            raise CommandError(f"unknown filter {key}")
        names.append(value)
    rows: list[dict[str, str]] = []
    for name, found in sorted(observe.projects(context.client).items()):
        if names and not any(re.search(pattern, name) for pattern in names):
            continue
        shown = [seen for seen in found if seen.running] if not flags.boolean("all") else found
        if not shown:
            continue
        states = Counter(seen.state for seen in shown)
        files: dict[str, None] = {}
        for seen in found:
            files |= dict.fromkeys(filter(None, seen.labels.get(labels.CONFIG_FILES, "").split(",")))
        status = ", ".join(f"{state}({count})" for state, count in sorted(states.items()))
        rows.append({"Name": name, "Status": status, "ConfigFiles": ",".join(files) or "N/A"})
    if flags.boolean("quiet"):
        for row in rows:
            context.out(row["Name"])
    elif flags.string("format") == "json":
        context.out(json.dumps(rows))
    else:
        context.out(align("\n".join(["NAME\tSTATUS\tCONFIG FILES", *("\t".join(row.values()) for row in rows)])))


COMMAND = Command(
    "[OPTIONS]",
    "List running compose projects",
    run,
    flags=(
        ("all", "a", "bool", False, "Show all stopped Compose projects"),
        ("filter", "", "filter", (), "Filter output based on conditions provided"),
        ("format", "", "string", "table", 'Format the output. Values: [table | json] (default "table")'),
        ("quiet", "q", "bool", False, "Only display project names"),
    ),
    args=NO_ARGS,
)
