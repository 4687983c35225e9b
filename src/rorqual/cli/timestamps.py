"""--since and --until: RFC 3339 in its shortened forms, Unix seconds, or a duration back from now.

The API takes seconds.nanoseconds. Source: docker's timestamp package (GetTimestamp), logs --help.
"""

from __future__ import annotations

import time

from rorqual.cli.errors import CommandError
from rorqual.client.values import parse_duration_ns, quote

_DATE = r"(\d{4})-(\d\d)-(\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d+))?)?)?)?(Z|[+-]\d\d:\d\d)?"


def to_timestamp(name: str, text: str, now: float | None = None) -> str:
    """What the API takes for `text`; "" for "". `name` (may be "") is the flag that errors name.

    Raises: CommandError for what is no time.
    """
    if not text:
        return ""
    try:
        back = parse_duration_ns(text)
    except ValueError:
        return _absolute(name, text)
    at = time.time_ns() if now is None else int(now * 1_000_000_000)
    at -= back
    return f"{at // 1_000_000_000}.{at % 1_000_000_000:09d}"


def _absolute(name: str, text: str) -> str:
    import re

    match = re.fullmatch(_DATE, text)
    if match is None:
        if re.fullmatch(r"-?\d+(\.\d+)?", text):
            return text
        raise _unreadable(name, text)
    import calendar

    year, month, day, hour, minute, second = (int(g) if g else 0 for g in match.groups()[:6])
    fraction, zone = match[7] or "", match[8]
    try:
        if zone is None:
            seconds = int(time.mktime((year, month, day, hour, minute, second, 0, 0, -1)))
        else:
            seconds = calendar.timegm((year, month, day, hour, minute, second))
            if zone != "Z":
                offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
                seconds += -offset if zone[0] == "+" else offset
    except (ValueError, OverflowError) as e:
        raise _unreadable(name, text) from e
    return f"{seconds}.{fraction[:9].ljust(9, '0')}"


def _unreadable(name: str, text: str) -> CommandError:
    prefix = f'invalid value for "{name}": ' if name else ""
    return CommandError(f"{prefix}failed to parse value as time or duration: {quote(text)}")
