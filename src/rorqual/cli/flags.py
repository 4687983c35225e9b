"""Flags in the grammar of Docker's command line (pflag's): --name=value, --name value, -n value, -nvalue, -n=value,
bundles of booleans (-it), `--` ends flags, booleans take a value only after "=", repeated flags accumulate.

Declarations are plain tuples, so that a command's table costs nothing to import:

    (name, shorthand, type as help shows it, default, help text[, hidden])

The type chooses the parser; a command may give a validator of its own for a name. Errors have pflag's texts, which wrap
Go's (`strconv.ParseInt: parsing "x": invalid syntax`).
"""

from __future__ import annotations

from rorqual.cli.errors import FlagError, HelpWanted
from rorqual.client import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Flag = tuple[str, str, str, Any, str] | tuple[str, str, str, Any, str, bool]
    Validator = Callable[[str], Any]

# Types whose repeated use appends; all others: the last one wins.
_LISTS = frozenset(
    (
        "list", "strings", "map", "filter", "ulimit", "mount", "network", "gpu-request", "stringToString", "ipNetSlice",
        "external-ca", "stringArray",
    )
)  # fmt: skip

_SCALARS: dict[str, Callable[[str], Any]] = {
    "string": str,
    "bool": values.parse_bool,
    "int": values.parse_int,
    "int64": values.parse_int,
    "uint": values.parse_uint,
    "uint64": values.parse_uint,
    "uint16": values.parse_uint16,
    "uint32": values.parse_uint32,
    "bytes": values.parse_bytes,
    "decimal": values.parse_cpus,
    "duration": values.parse_duration_ns,
}


class Values:
    """What the flags were set to. The typed getters take the flag's name; `changed` says whether it was given."""

    __slots__ = ("_given", "_values")

    def __init__(self, table: Mapping[str, Flag]) -> None:
        self._values: dict[str, Any] = {}
        for name, flag in table.items():
            self._values[name] = list(flag[3]) if flag[2] in _LISTS else flag[3]
        self._given: set[str] = set()

    def changed(self, name: str) -> bool:
        return name in self._given

    def string(self, name: str) -> str:
        value: str = self._values[name]
        return value

    def boolean(self, name: str) -> bool:
        value: bool = self._values[name]
        return value

    def integer(self, name: str) -> int:
        value: int = self._values[name]
        return value

    def many(self, name: str) -> list[Any]:
        """The values of a flag that may be repeated, in order."""
        value: list[Any] = self._values[name]
        return value

    def set(self, name: str, value: Any) -> None:
        self._values[name] = value
        self._given.add(name)

    def append(self, name: str, value: Any) -> None:
        self._values[name].append(value)
        self._given.add(name)

    def extend(self, name: str, items: Sequence[Any]) -> None:
        self._values[name].extend(items)
        self._given.add(name)


class FlagSet:
    """The flags of one command.

    `renamed` maps names that are still accepted to the present ones. `interspersed` False: the first argument that is
    not a flag ends the flags (run, exec).
    """

    __slots__ = ("_by_short", "_interspersed", "_renamed", "_table", "_validators")

    def __init__(
        self,
        flags: Sequence[Flag],
        *,
        validators: Mapping[str, Validator] | None = None,
        renamed: Mapping[str, str] | None = None,
        interspersed: bool = True,
    ) -> None:
        self._table: dict[str, Flag] = {flag[0]: flag for flag in flags}
        self._by_short: dict[str, Flag] = {flag[1]: flag for flag in flags if flag[1]}
        self._validators = validators or {}
        self._renamed = renamed or {}
        self._interspersed = interspersed

    def parse(self, args: Sequence[str]) -> tuple[Values, list[str]]:
        """(values, positional arguments).

        Raises: FlagError, HelpWanted for --help (and -h where that is no flag of the command's own).
        """
        out = Values(self._table)
        rest: list[str] = []
        index = 0
        while index < len(args):
            argument = args[index]
            index += 1
            if argument == "--":
                rest += args[index:]
                break
            if len(argument) < 2 or argument[0] != "-":
                rest.append(argument)
                if not self._interspersed:
                    rest += args[index:]
                    break
            elif argument.startswith("--"):
                index += self._long(out, argument, args, index)
            else:
                index += self._short(out, argument, args, index)
        return out, rest

    def _long(self, out: Values, argument: str, args: Sequence[str], index: int) -> int:
        name, equals, value = argument[2:].partition("=")
        if not name or name[0] == "-":
            raise FlagError(f"bad flag syntax: {argument}")
        flag = self._table.get(self._renamed.get(name, name))
        if flag is None:
            if name == "help":
                raise HelpWanted
            raise FlagError(f"unknown flag: --{name}")
        if equals:
            self._assign(out, flag, value)
            return 0
        if flag[2] == "bool":
            self._assign(out, flag, "true")
            return 0
        if index >= len(args):
            raise FlagError(f"flag needs an argument: --{name}")
        self._assign(out, flag, args[index])
        return 1

    def _short(self, out: Values, argument: str, args: Sequence[str], index: int) -> int:
        letters = argument[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            flag = self._by_short.get(letter)
            if flag is None:
                if letter == "h":
                    raise HelpWanted
                raise FlagError(f"unknown shorthand flag: {values.quote(letter, single=True)} in {argument}")
            if len(letters) > 1 and letters[0] == "=":
                self._assign(out, flag, letters[1:])
                return 0
            if flag[2] == "bool":
                self._assign(out, flag, "true")
                continue
            if letters:
                self._assign(out, flag, letters)
                return 0
            if index >= len(args):
                raise FlagError(f"flag needs an argument: {values.quote(letter, single=True)} in {argument}")
            self._assign(out, flag, args[index])
            return 1
        return 0

    def _assign(self, out: Values, flag: Flag, text: str) -> None:
        name, kind = flag[0], flag[2]
        validator = self._validators.get(name)
        try:
            if validator is not None:
                value = validator(text)
            elif kind in _SCALARS:
                value = _SCALARS[kind](text)
            elif kind == "filter":
                value = values.parse_filter(text)
            else:
                value = text
        except ValueError as e:
            shown = f"-{flag[1]}, --{name}" if flag[1] else f"--{name}"
            raise FlagError(f'invalid argument {values.quote(text)} for "{shown}" flag: {e}') from e
        if kind in ("strings", "stringToString"):
            out.extend(name, values.split_csv(value))
        elif kind in _LISTS:
            if value is not None:
                out.append(name, value)
        else:
            out.set(name, value)


def usages(flags: Sequence[Flag], columns: int) -> str:
    """The flags as --help lists them, wrapped at `columns` as pflag does; "" when there is none to show."""
    rows: list[tuple[str, str]] = []
    shown = [flag for flag in flags if len(flag) < 6 or not flag[5]]
    for flag in sorted(shown, key=lambda f: f[0].lower()):
        left = f"  -{flag[1]}, --{flag[0]}" if flag[1] else f"      --{flag[0]}"
        if flag[2] != "bool":
            left += f" {flag[2]}"
        rows.append((left, flag[4]))
    width = max((len(left) for left, _ in rows), default=0) + 3
    return "".join(f"{left.ljust(width)}{_wrap(width, columns, text)}\n" for left, text in rows)


def _wrap(indent: int, columns: int, text: str) -> str:
    """`text` in lines of at most `columns` less `indent`, continuation lines indented, in pflag's manner."""
    margin = "\n" + " " * indent
    if columns == 0:
        return text.replace("\n", margin)
    wrap = columns - indent
    if wrap < 24:
        indent, wrap, margin = 16, columns - 16, "\n" + " " * 16
        out = margin
    else:
        out = ""
    if wrap < 24:
        return text.replace("\n", margin)
    slop = 5
    wrap -= slop
    line, text = _wrap_once(wrap, slop, text)
    out += line.replace("\n", margin)
    while text:
        line, text = _wrap_once(wrap, slop, text)
        out += margin + line.replace("\n", margin)
    return out


def _wrap_once(width: int, slop: int, text: str) -> tuple[str, str]:
    if width + slop > len(text):
        return text, ""
    space = max(text.rfind(c, 0, width) for c in " \t\n")
    if space <= 0:
        return text, ""
    newline = text.rfind("\n", 0, width)
    if 0 < newline < space:
        return text[:newline], text[newline + 1 :]
    return text[:space], text[space + 1 :]
