"""Files of variables: .env, --env-file and a service's env_file.

Source: Compose Specification, "env_file"; Docker's "Syntax for environment files".
"""

from __future__ import annotations

import re
from pathlib import Path

from rorqual.compose.interpolate import Interpolator, Lookup
from rorqual.errdefs import InvalidArgument

_LINE = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z0-9_.\-\[\]]+)[ \t]*([=:]?)[ \t]*")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v", '"': '"', "\\": "\\"}
_DOLLAR = "$$"


def read(path: Path, lookup: Lookup, *, raw: bool = False) -> dict[str, str]:
    """Raises: OSError, InvalidArgument with the line."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape").removeprefix("\ufeff")
    try:
        return raw_values(text, lookup) if raw else parse(text, lookup)
    except InvalidArgument as e:
        raise InvalidArgument(f"failed to read {path}: {e}") from None


def raw_values(text: str, lookup: Lookup) -> dict[str, str]:
    """The format `raw`, which is `docker run --env-file`'s: everything behind = as it stands."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.lstrip().partition("=")
        if not name or name.startswith("#"):
            continue
        known = value if equals else lookup(name)
        if known is not None:
            found[name] = known
    return found


def parse(text: str, lookup: Lookup) -> dict[str, str]:
    """Later lines know the variables of earlier ones; `lookup`'s come first. Raises: InvalidArgument."""
    found: dict[str, str] = {}

    def known(name: str) -> str | None:
        value = lookup(name)
        return value if value is not None else found.get(name)

    expand = Interpolator(known)
    position, text = 0, text.replace("\r\n", "\n")
    while position < len(text):
        if match := re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|$)").match(text, position):
            position = max(match.end(), position + 1)
            continue
        line = text.count("\n", 0, position) + 1
        match = _LINE.match(text, position)
        if match is None or (not match[2] and text[match.end() : match.end() + 1] not in ("", "\n", "#")):
            shown = text[position:].partition("\n")[0]
            raise InvalidArgument(f'line {line}: unexpected character in variable name "{shown}"')
        position = match.end()
        if not match[2]:
            value = known(match[1])
            position = (text + "\n").index("\n", position)
        else:
            value, position = _value(text, position, line, expand)
        if value is not None:
            found[match[1]] = value
    return found


def _value(text: str, start: int, line: int, expand: Interpolator) -> tuple[str, int]:
    """The value that begins there, and where the rest does."""
    quote = text[start : start + 1]
    if quote not in ("'", '"'):
        end = (text + "\n").index("\n", start)
        value = re.split(r"(?:^|[ \t])#", text[start:end], maxsplit=1)[0].strip()
        return expand.text(value, f"line {line}"), end
    out: list[str] = []
    position = start + 1
    while position < len(text) and text[position] != quote:
        if text[position] == "\\" and position + 1 < len(text):
            after = text[position + 1]
            if quote == '"' and after in _ESCAPES:
                out.append(_ESCAPES[after])
            elif quote == '"' and after == "$":
                out.append(_DOLLAR)
            else:
                out.append(after if after == quote else "\\" + after)
            position += 2
            continue
        out.append(text[position])
        position += 1
    if position == len(text):
        raise InvalidArgument(f"line {line}: unterminated quoted value {text[start:].partition(chr(10))[0]}")
    rest = text[position + 1 :].partition("\n")[0]
    if rest.split("#")[0].strip():
        raise InvalidArgument(f"line {line}: unexpected character behind the closing quote: {rest.strip()}")
    value = "".join(out)
    return expand.text(value, f"line {line}") if quote == '"' else value, position + 1 + len(rest)
