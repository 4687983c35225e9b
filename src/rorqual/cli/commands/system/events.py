"""`rorqual events`."""

from __future__ import annotations

import json
import sys
import time

from rorqual.cli.command import Command, Context
from rorqual.cli.errors import Exit
from rorqual.cli.formats import OBJECT_FORMAT
from rorqual.cli.timestamps import to_timestamp
from rorqual.client import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rorqual.cli.flags import Values
    from rorqual.cli.gotemplate import Object

    JSON = dict[str, Any]

EXIT_TEMPLATE = 64


def run(context: Context, flags: Values, args: list[str]) -> None:
    render = _renderer(flags.string("format"))
    events = context.client.system.events(
        since=to_timestamp("", flags.string("since")),
        until=to_timestamp("", flags.string("until")),
        filters=values.merge_filters(flags.many("filter")),
    )
    for event in events:
        sys.stdout.write(render(event) + "\n")
        sys.stdout.flush()


def _renderer(format: str) -> Callable[[JSON], str]:
    if not format:
        return pretty
    if format in ("json", "{{json .}}"):
        return lambda event: json.dumps(event, separators=(",", ":"), ensure_ascii=False)
    from rorqual.cli.gotemplate import TemplateError, parse
    from rorqual.cli.gotemplate.docker import FUNCTIONS, unescape

    try:
        template = parse("", unescape(format), FUNCTIONS)
    except TemplateError as e:
        raise Exit(EXIT_TEMPLATE, f"Error parsing format: {e}") from e

    def render(event: JSON) -> str:
        try:
            return template.execute(_fields(event))
        except TemplateError as e:
            raise Exit(EXIT_TEMPLATE, f"Error parsing format: {e}") from e

    render({})  # Docker tries a format out before the first event
    return render


def _fields(event: JSON) -> Object:
    """What a template sees: Go's field names."""
    from rorqual.cli.gotemplate import Object

    fields = {
        "Status": event.get("status", ""),
        "ID": event.get("id", ""),
        "From": event.get("from", ""),
        "Type": event.get("Type", ""),
        "Action": event.get("Action", ""),
        "Actor": event.get("Actor") or {"ID": "", "Attributes": {}},
        "Scope": event.get("scope", ""),
        "Time": event.get("time", 0),
        "TimeNano": event.get("timeNano", 0),
    }
    return Object("*events.Message", fields.__getitem__, tuple(fields))


def pretty(event: JSON) -> str:
    """`TIME TYPE ACTION ID (attribute=value, …)`"""
    nanoseconds = event.get("timeNano") or event.get("time", 0) * 1_000_000_000
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    local = time.localtime(seconds)
    zone = time.strftime("%z", local)
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{fraction:09d}{zone}"
    actor = event.get("Actor") or {}
    text = f"{stamp} {event.get('Type', '')} {event.get('Action', '')} {actor.get('ID', '')}"
    attributes = actor.get("Attributes") or {}
    if attributes:
        text += " (" + ", ".join(f"{k}={attributes[k]}" for k in sorted(attributes)) + ")"
    return text


COMMAND = Command(
    "[OPTIONS]",
    "Get real time events from the server",
    run,
    flags=(
        ("filter", "f", "filter", (), "Filter output based on conditions provided"),
        OBJECT_FORMAT,
        ("since", "", "string", "", "Show all events created since timestamp"),
        ("until", "", "string", "", "Stream events until this timestamp"),
    ),
    aliases="system events, events",
)
