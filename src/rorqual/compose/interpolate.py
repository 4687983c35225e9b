"""Variables in a Compose file's values: $NAME, ${NAME}, ${NAME:-default} and their kin.

Source: Compose Specification, "Interpolation".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from rorqual.errdefs import InvalidArgument

Lookup = Callable[[str], str | None]

_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_MAX_NESTED = 100
_OPERATORS = (":-", "-", ":?", "?", ":+", "+")


class Interpolator:
    """`lookup` gives a variable's value; `warn` is told once of each that has none and no default."""

    def __init__(self, lookup: Lookup, warn: Callable[[str], None] = lambda text: None) -> None:
        self._lookup = lookup
        self._warn = warn
        self._missing: set[str] = set()

    def value(self, value: Any, at: str) -> Any:
        """A document with the variables of its texts replaced; keys stay. Raises: InvalidArgument."""
        if isinstance(value, str):
            return self.text(value, at) if "$" in value else value
        if isinstance(value, dict):
            return {key: self.value(item, f"{at}.{key}" if at else str(key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, f"{at}[{number}]") for number, item in enumerate(value)]
        if hasattr(value, "mapped"):  # yamltext.Override
            return value.mapped(lambda inner: self.value(inner, at))
        return value

    def text(self, text: str, at: str) -> str:
        """Raises: InvalidArgument."""
        try:
            return self._expanded(text)
        except _MalformedError:
            raise InvalidArgument(
                f"invalid interpolation format for {at}.\nYou may need to escape any $ with another $.\n{text}"
            ) from None
        except _RequiredError as e:
            raise InvalidArgument(f"error while interpolating {at}: {e}") from None

    def _expanded(self, text: str) -> str:
        return "".join(piece if isinstance(piece, str) else self._variable(*piece) for piece in _pieces(text))

    def _variable(self, name: str, operator: str, word: str) -> str:
        value = self._lookup(name)
        given = bool(value) if operator.startswith(":") else value is not None
        match operator[-1:]:
            case "-":
                return value or "" if given else self._expanded(word)
            case "+":
                return self._expanded(word) if given else ""
            case "?":
                if not given:
                    raise _RequiredError(f"required variable {name} is missing a value: {self._expanded(word)}")
        if value is None and name not in self._missing:
            self._missing.add(name)
            self._warn(f'The "{name}" variable is not set. Defaulting to a blank string.')
        return value or ""


class _MalformedError(Exception):
    pass


class _RequiredError(Exception):
    pass


def _pieces(text: str) -> Iterator[str | tuple[str, str, str]]:
    """Literal texts, and variables as (name, operator, word). Raises: _MalformedError."""
    position = 0
    while (dollar := text.find("$", position)) >= 0:
        yield text[position:dollar]
        after = text[dollar + 1 : dollar + 2]
        if after == "$":
            yield "$"
            position = dollar + 2
        elif after == "{":
            end = _closing(text, dollar + 2)
            yield _braced(text[dollar + 2 : end])
            position = end + 1
        elif match := _NAME.match(text, dollar + 1):
            yield match[0], "", ""
            position = match.end()
        else:
            yield "$"  # that begins no variable: itself, as in `$(date)` and `$1`
            position = dollar + 1
    yield text[position:]


def _closing(text: str, start: int) -> int:
    """Where the brace that was opened before `start` is closed."""
    depth = 1
    position = start
    while position < len(text):
        if text[position] == "{":
            depth += 1
            if depth > _MAX_NESTED:
                break
        elif text[position] == "}":
            depth -= 1
            if not depth:
                return position
        position += 1
    raise _MalformedError


def _braced(inner: str) -> tuple[str, str, str]:
    match = _NAME.match(inner)
    if match is None:
        raise _MalformedError
    rest = inner[match.end() :]
    if not rest:
        return match[0], "", ""
    for operator in _OPERATORS:
        if rest.startswith(operator):
            return match[0], operator, rest[len(operator) :]
    raise _MalformedError


def variables(value: Any) -> dict[str, tuple[bool, str, str]]:
    """Those in a document: name -> (required, default, alternative)."""
    found: dict[str, tuple[bool, str, str]] = {}
    texts = [value]
    while texts:
        item = texts.pop()
        if isinstance(item, dict):
            texts += reversed(item.values())
        elif isinstance(item, list):
            texts += reversed(item)
        elif isinstance(item, str):
            for piece in _pieces(item):
                if isinstance(piece, tuple):
                    name, operator, word = piece
                    kind = operator[-1:]
                    entry = (kind == "?", word if kind == "-" else "", word if kind == "+" else "")
                    if name not in found or any(entry):
                        found[name] = entry
                    texts.append(word)
    return found
