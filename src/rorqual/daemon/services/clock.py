"""Times as the Engine API writes them: RFC 3339 in UTC with nanoseconds, and what `since`/`until` accept."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from rorqual.errdefs import InvalidArgument

NEVER = "0001-01-01T00:00:00Z"
_SECOND = 1_000_000_000


def now_ns() -> int:
    """Nanoseconds since the epoch."""
    return time.time_ns()


def rfc3339(ns: int) -> str:
    """`2026-01-02T03:04:05.678901234Z`, trailing zeros cut as Go does; 0 is Go's zero time."""
    if ns <= 0:
        return NEVER
    seconds, rest = divmod(ns, _SECOND)
    t = time.gmtime(seconds)
    text = f"{t.tm_year:04}-{t.tm_mon:02}-{t.tm_mday:02}T{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
    return f"{text}.{rest:09}".rstrip("0").rstrip(".") + "Z"


def rfc3339_fixed(ns: int) -> str:
    """With all nine digits: the timestamps of logs."""
    seconds, rest = divmod(ns, _SECOND)
    t = time.gmtime(seconds)
    text = f"{t.tm_year:04}-{t.tm_mon:02}-{t.tm_mday:02}T{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
    return f"{text}.{rest:09}Z"


_RFC3339 = re.compile(r"^(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9})\d*)?)?([Zz]|[+-]\d\d:?\d\d)?\Z")
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 1000, "µs": 1000, "ms": 10**6, "s": _SECOND, "m": 60 * _SECOND, "h": 3600 * _SECOND}


def parse_rfc3339(text: str) -> int:
    """Nanoseconds since the epoch; a time without zone is UTC. Raises: InvalidArgument."""
    match = _RFC3339.match(text)
    if match is None:
        raise InvalidArgument(f"invalid time {text!r}")
    date, clock, fraction, zone = match.groups()
    zone = "+00:00" if zone in (None, "Z", "z") else zone
    try:
        moment = datetime.fromisoformat(f"{date}T{clock or '00:00:00'}{zone}")
    except ValueError as e:
        raise InvalidArgument(f"invalid time {text!r}") from e
    return int(moment.astimezone(UTC).timestamp()) * _SECOND + int((fraction or "0").ljust(9, "0"))


def parse_when(text: str, now: int | None = None) -> int:
    """`since` and `until`: seconds[.fraction] since the epoch, RFC 3339, or a duration before now (`10m`).

    Raises: InvalidArgument.
    """
    if re.fullmatch(r"-?\d+(\.\d*)?", text):
        whole, _, fraction = text.partition(".")
        return int(whole) * _SECOND + int(fraction[:9].ljust(9, "0") or "0")
    if _RFC3339.match(text):
        return parse_rfc3339(text)
    try:
        ago = parse_duration(text)
    except InvalidArgument:
        raise InvalidArgument(f'failed to parse value as time or duration: "{text}"') from None
    return (now if now is not None else now_ns()) - ago


def parse_duration(text: str) -> int:
    """Nanoseconds of Go's notation: `1m30s`, `500ms`. Raises: InvalidArgument."""
    total, end = 0.0, 0
    for match in _DURATION.finditer(text):
        if match.start() != end:
            break
        total += float(match[1]) * _UNITS[match[2]]
        end = match.end()
    if end == 0 or end != len(text) or total >= 1 << 63:  # Go's durations have 64 bits
        raise InvalidArgument(f'invalid duration "{text}"')
    return int(total)


def duration(seconds: float) -> str:
    """How long, in words, as Docker's CLI says it (go-units HumanDuration)."""
    s = int(seconds)
    if s < 1:
        return "Less than a second"
    if s == 1:
        return "1 second"
    if s < 60:
        return f"{s} seconds"
    minutes = s // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = round(seconds / 3600)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    days = hours // 24
    if hours < 24 * 7 * 2:
        return f"{days} days"
    if hours < 24 * 30 * 2:
        return f"{days // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{days // 30} months"
    return f"{days // 365} years"
