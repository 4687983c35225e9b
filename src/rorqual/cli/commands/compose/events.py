"""`rorqual compose events`."""

from __future__ import annotations

import json

from rorqual.cli import units
from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.commands.compose import loading
from rorqual.cli.flags import Values
from rorqual.cli.timestamps import to_timestamp
from rorqual.compose import labels


def run(context: Context, flags: Values, args: list[str]) -> None:
    of = loading.known(context)
    loading.check_services(of, args)
    stream = context.client.system.events(
        since=to_timestamp("since", flags.string("since")),
        until=to_timestamp("until", flags.string("until")),
        filters={"type": ["container"], "label": [f"{labels.PROJECT}={of.name}"]},
    )
    for event in stream:
        attributes = event["Actor"]["Attributes"]
        service = attributes.get(labels.SERVICE, "")
        if args and service not in args:
            continue
        shown = {k: v for k, v in attributes.items() if not k.startswith(labels.PREFIX)}
        when = units.local_time(event["time"])
        if flags.boolean("json"):
            document = {
                "time": when, "type": "container", "service": service, "id": event["Actor"]["ID"],
                "action": event["Action"], "attributes": shown,
            }  # fmt: skip
            context.out(json.dumps(document))
        else:
            pairs = ", ".join(f"{key}={value}" for key, value in sorted(shown.items()))
            context.out(f"{when} container {event['Action']} {event['Actor']['ID']} ({pairs})")


COMMAND = Command(
    "[OPTIONS] [SERVICE...]",
    "Receive real time events from containers",
    run,
    flags=(
        ("json", "", "bool", False, "Output events as a stream of json objects"),
        ("since", "", "string", "", "Show all events created since timestamp"),
        ("until", "", "string", "", "Stream events until this timestamp"),
    ),
    args=ANY_ARGS,
)
