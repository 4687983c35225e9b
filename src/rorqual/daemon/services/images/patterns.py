"""Go's path.Match, as `reference` filters use it: `*` and `?` stop at a slash."""

from __future__ import annotations

import re

from rorqual.errdefs import InvalidArgument


def compile(pattern: str) -> re.Pattern[str]:
    """Raises: InvalidArgument (`syntax error in pattern`)."""
    out = ""
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "\\" and position < len(pattern):
            out += re.escape(pattern[position])
            position += 1
        elif char == "[":
            end = pattern.find("]", position + 1)
            if end < 0:
                raise InvalidArgument("syntax error in pattern")
            inside = pattern[position:end]
            negated = inside.startswith("^")
            out += ("[^" if negated else "[") + re.sub(r"([\[\]&~|^])", r"\\\1", inside[negated:]) + "]"
            position = end + 1
        elif char == "\\":
            raise InvalidArgument("syntax error in pattern")
        else:
            out += re.escape(char)
    try:
        return re.compile(out)
    except re.error as error:
        raise InvalidArgument("syntax error in pattern") from error
