"""What values of a Compose file are made of: each kind knows its one canonical form and how two files' values merge.

A kind's `canon(value, at, base)` checks a value and gives its canonical form; `at` is where it is ("services.web"),
`base` the directory that relative paths are relative to (None: they stay). Raises: InvalidArgument naming `at`.
`merge(old, new)` puts a later file's canonical value over an earlier one's. Source: Compose Specification, "Merge".
"""

from __future__ import annotations

import os
import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from rorqual.client import values
from rorqual.compose.yamltext import RESET, Override
from rorqual.errdefs import InvalidArgument

JSON = dict[str, Any]
_NUMBER = (int, float)


def wrong(at: str, what: str) -> InvalidArgument:
    return InvalidArgument(f"{at} must be {what}")


class Raw(str):
    """A text whose variables are left as they are: nothing can be read in it yet."""


class Kind(ABC):
    """A value that a later file replaces. `null_replaces`: also when it says null."""

    null_replaces = False

    @abstractmethod
    def canon(self, value: Any, at: str, base: str | None) -> Any:
        """The canonical form of `value`. Raises: InvalidArgument naming `at`."""

    def merge(self, old: Any, new: Any) -> Any:
        return new


def canonical(kind: Kind, value: Any, at: str, base: str | None) -> Any:
    """As the kind's own, behind the tags !reset and !override."""
    if value is RESET or isinstance(value, Raw):
        return value
    if isinstance(value, Override):
        return value.mapped(lambda inner: kind.canon(inner, at, base))
    return kind.canon(value, at, base)


def merged(kind: Kind, old: Any, new: Any) -> Any:
    """`new` over `old`, either of which may be missing (None is a value: a key without one). RESET takes away."""
    if isinstance(new, Override):
        return new.value
    if isinstance(old, Override):
        old = old.value
    if new is None and old is not None and not kind.null_replaces:
        return old
    simple = old is None or new is None or old is RESET or new is RESET or isinstance(old, Raw) or isinstance(new, Raw)
    return new if simple else kind.merge(old, new)


def settled(value: Any) -> Any:
    """A document without the tags, after the last file."""
    if isinstance(value, Override):
        return settled(value.value)
    if isinstance(value, dict):
        return {key: settled(item) for key, item in value.items() if item is not RESET}
    if isinstance(value, list):
        return [settled(item) for item in value if item is not RESET]
    return value


class Text(Kind):
    """A text; with `numbers` a number or a boolean too, as its text. `choices`: no other."""

    def __init__(self, *choices: str, numbers: bool = False, pattern: str = "") -> None:
        self._choices = choices
        self._numbers = numbers
        self._pattern = re.compile(pattern) if pattern else None

    def canon(self, value: Any, at: str, base: str | None) -> str:
        if self._numbers and isinstance(value, bool | int | float):
            return scalar(value)
        if not isinstance(value, str):
            raise wrong(at, "a string or number" if self._numbers else "a string")
        if self._choices and value not in self._choices:
            raise wrong(at, f"one of the following: {', '.join(map(repr, self._choices))}".replace("'", '"'))
        if self._pattern is not None and not self._pattern.fullmatch(value):
            raise InvalidArgument(f"{at}: invalid value {value}")
        return value


class Path(Kind):
    """A file's path. `urls`: what names no file here stays."""

    def __init__(self, *, urls: bool = False) -> None:
        self._urls = urls

    def canon(self, value: Any, at: str, base: str | None) -> str:
        if not isinstance(value, str):
            raise wrong(at, "a string")
        remote = "://" in value or value.startswith(("git@", "github.com/")) or value == "-"
        return value if base is None or (self._urls and remote) else resolved(value, base)


class Boolean(Kind):
    def canon(self, value: Any, at: str, base: str | None) -> bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in ("true", "1", "t", "y", "yes", "on"):
            return True
        if isinstance(value, str) and value.lower() in ("false", "0", "f", "n", "no", "off"):
            return False
        raise wrong(at, "a boolean")


class Number(Kind):
    """An integer; with `fraction` any number."""

    def __init__(self, *, fraction: bool = False) -> None:
        self._fraction = fraction

    def canon(self, value: Any, at: str, base: str | None) -> int | float:
        if isinstance(value, str):
            try:
                value = int(value, 0) if re.fullmatch(r"[-+]?0x[0-9a-fA-F]+", value) else float(value)
            except ValueError:
                raise wrong(at, "a number" if self._fraction else "an integer") from None
        if isinstance(value, bool) or not isinstance(value, _NUMBER) or value != value or abs(value) == float("inf"):
            raise wrong(at, "a number" if self._fraction else "an integer")
        if float(value).is_integer():
            return int(value)
        if not self._fraction:
            raise wrong(at, "an integer")
        return value


class Mode(Kind):
    """Permission bits: a number (which YAML's 0440 is), or their octal text."""

    def canon(self, value: Any, at: str, base: str | None) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and re.fullmatch(r"(?:0o?)?[0-7]{1,6}", value):
            return int(value.removeprefix("0o"), 8)
        raise wrong(at, "permissions")


class Bytes(Kind):
    """A size, in its canonical form as decimal text; -1 is no limit."""

    def canon(self, value: Any, at: str, base: str | None) -> str:
        if isinstance(value, _NUMBER) and not isinstance(value, bool) and abs(value) != float("inf"):
            return str(int(value))
        if not isinstance(value, str):
            raise wrong(at, "a string or number")
        if value.strip() == "-1":
            return "-1"
        try:
            return str(values.parse_bytes(value))
        except ValueError as e:
            raise InvalidArgument(f"{at}: {e}") from None


class Duration(Kind):
    """A time, as Go writes it."""

    def canon(self, value: Any, at: str, base: str | None) -> str:
        if not isinstance(value, str):
            raise wrong(at, "a string")
        try:
            return duration_text(duration_ns(value))
        except ValueError:
            raise InvalidArgument(f'{at}: time: invalid duration "{value}"') from None


class Command(Kind):
    """A command: a list, or a text that is split as a shell would; null is the image's, [] none."""

    null_replaces = True

    def canon(self, value: Any, at: str, base: str | None) -> list[str] | None:
        if value is None:
            return None
        if isinstance(value, str):
            try:
                return shlex.split(value)
            except ValueError as e:
                raise InvalidArgument(f"{at}: invalid command line string: {e}") from None
        if not isinstance(value, list):
            raise wrong(at, "a string or an array of strings")
        return [Text(numbers=True).canon(item, f"{at}[{number}]", base) for number, item in enumerate(value)]


class Test(Command):
    """A health check's: a text is for the shell."""

    def canon(self, value: Any, at: str, base: str | None) -> list[str] | None:
        return ["CMD-SHELL", value] if isinstance(value, str) else super().canon(value, at, base)


class Array(Kind):
    """A list whose later files append. `key` tells entries that replace each other; `single`: one may stand alone."""

    def __init__(
        self,
        kind: Kind,
        *,
        key: Callable[[Any], Any] | None = None,
        single: bool = False,
        many: bool = False,
        combine: bool = False,
    ) -> None:
        self._kind = kind
        self._key = key or (lambda item: item if isinstance(item, str) else id(item))
        self._single = single
        self._many = many  # the kind makes several entries of one
        self._combine = combine  # entries of the same key are merged

    def canon(self, value: Any, at: str, base: str | None) -> list[Any]:
        if self._single and isinstance(value, str | dict):
            value = [value]
        if not isinstance(value, list):
            raise wrong(at, "an array" if not self._single else "a string or an array")
        out: list[Any] = []
        for number, item in enumerate(value):
            made = canonical(
                self._kind, item, f"{at}[{number}]" if not isinstance(item, str) else f"{at}.{number}", base
            )
            if made is RESET:
                continue
            made = made.value if isinstance(made, Override) else made
            out += made if self._many and isinstance(made, list) else [made]
        return self._unique(out)

    def merge(self, old: Any, new: Any) -> Any:
        return self._unique([*old, *new])

    def _unique(self, items: list[Any]) -> list[Any]:
        found: dict[Any, Any] = {}
        for item in items:
            key = item if isinstance(item, Raw) else self._key(item)
            found[key] = self._kind.merge(found[key], item) if self._combine and key in found else item
        return list(found.values())


class Table(Kind):
    """Names with values of one kind. `short` makes it of a list; `empty`: a name may stand without a value."""

    def __init__(
        self,
        kind: Kind,
        *,
        short: Callable[[list[Any], str], JSON] | None = None,
        empty: bool = False,
        names: str = "",
    ) -> None:
        self._kind = kind
        self._short = short
        self._empty = empty
        self._names = re.compile(names) if names else None

    def canon(self, value: Any, at: str, base: str | None) -> JSON:
        if value is None and self._empty:
            return {}
        if isinstance(value, list) and self._short is not None:
            value = self._short(value, at)
        if not isinstance(value, dict):
            raise wrong(at, "a mapping or an array" if self._short is not None else "a mapping")
        out: JSON = {}
        for name, item in value.items():
            if self._names is not None and not self._names.fullmatch(name):
                raise InvalidArgument(f"{at}: additional properties '{name}' not allowed")
            out[name] = None if item is None and self._empty else canonical(self._kind, item, f"{at}.{name}", base)
        return out

    def merge(self, old: Any, new: Any) -> Any:
        out = dict(old)
        for name, item in new.items():
            out[name] = merged(self._kind, out.get(name), item)
        return out


class Fields(Kind):
    """An object with known fields, and extensions (x-...). `short` makes it of a text or a number."""

    def __init__(
        self,
        fields: Mapping[str, Kind],
        *,
        short: Callable[[Any, str, str | None], Any] | None = None,
        finish: Callable[[JSON, str, str | None], JSON] | None = None,
    ) -> None:
        self.fields = fields
        self._short = short
        self._finish = finish

    def canon(self, value: Any, at: str, base: str | None) -> Any:
        if self._short is not None and isinstance(value, str | int | float) and not isinstance(value, bool):
            made = self._short(value, at, base)
            return self._finish(made, at, base) if self._finish is not None else made
        if not isinstance(value, dict):
            raise wrong(at, "a mapping" if self._short is None else "a string or a mapping")
        out: JSON = {}
        for name, item in value.items():
            if name.startswith("x-"):
                out[name] = item
            elif name not in self.fields:
                raise InvalidArgument(f"{at or '(root)'} additional properties '{name}' not allowed")
            else:
                out[name] = canonical(self.fields[name], item, f"{at}.{name}" if at else name, base)
        return self._finish(out, at, base) if self._finish is not None else out

    def merge(self, old: Any, new: Any) -> Any:
        if not isinstance(old, dict) or not isinstance(new, dict):
            return new
        out = dict(old)
        for name, item in new.items():
            kind = self.fields.get(name)
            out[name] = merged(kind, out.get(name), item) if kind is not None else item
        return out


class Either(Kind):
    """`kind`, or for a value that `test` knows, `other`."""

    def __init__(self, test: Callable[[Any], bool], other: Kind, kind: Kind) -> None:
        self._test = test
        self._other = other
        self._kind = kind

    def canon(self, value: Any, at: str, base: str | None) -> Any:
        return (self._other if self._test(value) else self._kind).canon(value, at, base)

    def merge(self, old: Any, new: Any) -> Any:
        return self._kind.merge(old, new) if isinstance(old, dict) and isinstance(new, dict) else new


def scalar(value: Any) -> str:
    """A YAML scalar as the text it was."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def resolved(path: str, base: str) -> str:
    """The absolute path of one that is relative to `base`; ~ is the user's home."""
    return os.path.normpath(os.path.join(base, os.path.expanduser(path)))


def pairs(items: list[Any], at: str, separators: str = "=") -> JSON:
    """["a=b", "c"] as {"a": "b", "c": None}."""
    out: JSON = {}
    for item in items:
        if not isinstance(item, str):
            raise wrong(at, "an array of strings")
        places = [place for place in map(item.find, separators) if place >= 0]
        cut = min(places, default=-1)
        name = item if cut < 0 else item[:cut]
        if not name:
            raise InvalidArgument(f"{at}: unexpected value {item!r}: empty name")
        out[name] = None if cut < 0 else item[cut + 1 :]
    return out


def duration_ns(text: str) -> int:
    """Raises: ValueError."""
    return values.parse_duration_ns(text)


def duration_text(ns: int) -> str:
    """As Go's Duration.String: 1h0m0s, 1m30s, 1.5s, 100ms."""
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    if ns < 1_000_000_000:
        if not ns:
            return "0s"
        for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if ns >= size:
                return f"{sign}{_fraction(ns, size)}{unit}"
    minutes, rest = divmod(ns, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{head}{_fraction(rest, 1_000_000_000)}s"


def _fraction(ns: int, size: int) -> str:
    whole, rest = divmod(ns, size)
    digits = str(rest).rjust(len(str(size)) - 1, "0").rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)
