"""Progress of pull, push, load and import: the engine's JSON messages as lines, redrawn in place on a terminal."""

from __future__ import annotations

import os
import time

from rorqual import errdefs
from rorqual.cli.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TextIO

    JSON = dict[str, Any]

_ERASE_LINE = "\x1b[2K"


class ProgressError(errdefs.Error):
    """The engine reported a failure in the stream; `code` is its number (0 when it gave none)."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def display(messages: Iterable[JSON], out: TextIO, *, on_aux: Callable[[JSON], None] | None = None) -> None:
    """Show messages as they come. Raises: ProgressError when one carries an error."""
    is_terminal = out.isatty()
    width = 200
    if is_terminal:
        try:
            width = os.get_terminal_size(out.fileno()).columns or 200
        except OSError:
            width = 200
    lines: dict[str, int] = {}
    for message in messages:
        if message.get("aux") is not None:
            if on_aux is not None:
                on_aux(message["aux"])
            continue
        id = message.get("id", "")
        progress = message.get("progressDetail")
        up = 0
        if id and progress is not None:
            line = lines.get(id)
            if line is None:
                line = lines[id] = len(lines)
                if is_terminal:
                    out.write("\n")
            up = len(lines) - line
            if is_terminal and up:
                out.write(f"\x1b[{up}A")
        else:
            # A line of its own would make the count of lines to go up wrong.
            lines.clear()
        text = _text(message, is_terminal, width)
        if is_terminal and id and up:
            text += f"\x1b[{up}B"
        if text:
            out.write(text)
            out.flush()


def _text(message: JSON, is_terminal: bool, width: int) -> str:
    detail = message.get("errorDetail")
    if detail or message.get("error"):
        detail = detail or {}
        raise ProgressError(detail.get("message") or message.get("error", ""), detail.get("code", 0))
    progress = message.get("progressDetail")
    stream = message.get("stream", "")
    start = end = ""
    if is_terminal and not stream and progress is not None:
        start = _ERASE_LINE + "\r"
        end = "\r"
    elif progress and (progress.get("current", 0) > 0 or progress.get("total", 0) > 0):
        return ""
    if message.get("id"):
        start += f"{message['id']}: "
    if progress is not None and is_terminal:
        return f"{start}{message.get('status', '')} {bar(progress, width)}{end}"
    if stream:
        return f"{start}{stream}{end}"
    return f"{start}{message.get('status', '')}{end}\n"


def bar(progress: JSON, width: int, now: float | None = None) -> str:
    """`[===>   ]  1.2MB/9MB` for a detail of {"current", "total", "start", "units", "hidecounts"}."""
    current, total = progress.get("current", 0), progress.get("total", 0)
    units = progress.get("units", "")
    if current <= 0 and total <= 0:
        return ""
    if total <= 0:
        return f"{current} {units}" if units else f"{human_size(current):>8}"
    percentage = min(int(current / total * 100) // 2, 50)
    out = ""
    if width > 110:
        out = f"[{'=' * percentage}>{' ' * (50 - percentage)}] "
    if progress.get("hidecounts"):
        numbers = ""
    elif units:
        numbers = f"{current} {units}" if current > total else f"{current}/{total} {units}"
    else:
        numbers = f"{human_size(current):>8}"
        if current <= total:
            numbers += f"/{human_size(total)}"
    start = progress.get("start", 0)
    left = ""
    if width > 50 and current > 0 and start > 0 and percentage < 50:
        spent = (time.time() if now is None else now) - start
        left = f" {_duration(spent / current * (total - current))}"
    return out + numbers + left


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, second = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{second}s"
    return f"{minutes}m{second}s" if minutes else f"{second}s"
