"""Sizes and ages as Docker prints them. Source: docker/go-units."""

from __future__ import annotations

import time

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
MINUTE_S, HOUR_S = 60, 3600


def general(value: float, precision: int) -> str:
    """Go's %.{precision}g."""
    return f"{value:.{precision}g}"


def _scaled(size: float, base: float, names: tuple[str, ...], precision: int) -> str:
    index = 0
    while size >= base and index < len(names) - 1:
        size /= base
        index += 1
    return general(size, precision) + names[index]


def human_size(size_bytes: float, precision: int = 4) -> str:
    """1980000 as 1.98MB: decimal units, `precision` significant digits."""
    return _scaled(float(size_bytes), 1000.0, _DECIMAL, precision)


def bytes_size(size_bytes: float) -> str:
    """Binary units, four digits: 23.54GiB."""
    return _scaled(float(size_bytes), 1024.0, _BINARY, 4)


def human_duration(seconds: float) -> str:
    """An age in words: "About an hour", "3 days"."""
    s = int(seconds)
    if s < 1:
        return "Less than a second"
    if s == 1:
        return "1 second"
    if s < MINUTE_S:
        return f"{s} seconds"
    minutes = s // MINUTE_S
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / HOUR_S + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / HOUR_S) // 24 // 365} years"


def ago(created_unix: float, now: float | None = None) -> str:
    """ "3 days ago" for a time in seconds since the epoch; "" for zero."""
    if not created_unix:
        return ""
    return human_duration((time.time() if now is None else now) - created_unix) + " ago"


def local_time(unix_s: float) -> str:
    """2026-11-24 06:25:10 +0000 UTC, in the local zone, as Go prints a time."""
    t = time.localtime(unix_s)
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", t)


def parse_rfc3339(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time (fraction and offset allowed); 0.0 for the zero time.

    Raises: ValueError.
    """
    import calendar

    if not text or text.startswith("0001-"):
        return 0.0
    base = time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")
    seconds = float(calendar.timegm(base))
    rest = text[19:]
    if rest.startswith("."):
        end = 1
        while end < len(rest) and rest[end].isdigit():
            end += 1
        seconds += float("0" + rest[:end])
        rest = rest[end:]
    if rest not in ("Z", ""):
        sign = -1 if rest[0] == "+" else 1
        hours, _, minutes = rest[1:].partition(":")
        seconds += sign * (int(hours) * HOUR_S + int(minutes or 0) * MINUTE_S)
    return seconds


def truncate_id(id: str) -> str:
    """The twelve characters people use of an id, without its algorithm."""
    return id.partition(":")[2][:12] if ":" in id else id[:12]


def ellipsis(text: str, width: int) -> str:
    """`text` in at most `width` columns, its cut end marked with "…"."""
    if len(text) <= width or width <= 0:
        return text
    return text[: width - 1] + "…"
