"""Command lines as runc's: options before arguments, `-o v`, `-o=v`, `--option v`, `--option=v`, `--` ends options.

argparse would cost more than all else that a short command does.
"""

from __future__ import annotations

from collections.abc import Sequence

from rorqual.errdefs import InvalidArgument
from rorqual.record import record


@record
class Option:
    """`flag`: takes no value. `many`: may be repeated."""

    names: tuple[str, ...]
    help: str
    flag: bool = False
    many: bool = False

    @property
    def name(self) -> str:
        return self.names[0]


def value(*names: str, help: str) -> Option:
    return Option(names, help)


def flag(*names: str, help: str) -> Option:
    return Option(names, help, flag=True)


def many(*names: str, help: str) -> Option:
    return Option(names, help, many=True)


class Line:
    """A parsed command line."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.flags: set[str] = set()
        self.lists: dict[str, list[str]] = {}
        self.arguments: list[str] = []

    def get(self, name: str, default: str = "") -> str:
        return self.values.get(name, default)

    def has(self, name: str) -> bool:
        return name in self.flags

    def all(self, name: str) -> list[str]:
        return self.lists.get(name, [])

    def number(self, name: str) -> int | None:
        """Raises: InvalidArgument."""
        text = self.values.get(name)
        if text is None or text == "":
            return None
        try:
            return int(text)
        except ValueError:
            raise InvalidArgument(f'invalid value for {name}: parsing "{text}": invalid syntax') from None


# What Go's strconv.ParseBool takes.
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


class Usage(InvalidArgument):
    """The command line itself is wrong: the command's help is shown."""


def parse(arguments: Sequence[str], options: Sequence[Option], *, mixed: bool = False) -> Line:
    """`mixed`: options may come after arguments too (until `--`). Raises: Usage."""
    by_name = {name: option for option in options for name in option.names}
    line = Line()
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            break
        if not word.startswith("-") or word == "-":
            if not mixed:
                rest.insert(0, word)
                break
            line.arguments.append(word)
            continue
        name, separator, given = word.lstrip("-").partition("=")
        option = by_name.get(name)
        if option is None:
            raise Usage(f"flag provided but not defined: -{name}")
        if option.flag:
            if separator and given not in _TRUE | _FALSE:
                raise Usage(f'invalid boolean value "{given}" for -{name}: parse error')
            if not separator or given in _TRUE:
                line.flags.add(option.name)
            continue
        if not separator:
            if not rest:
                raise Usage(f"flag needs an argument: -{name}")
            given = rest.pop(0)
        if option.many:
            line.lists.setdefault(option.name, []).append(given)
        else:
            line.values[option.name] = given
    line.arguments += rest
    return line


def expect(line: Line, command: str, low: int, high: int | None) -> None:
    """Raises: Usage in runc's words."""
    count = len(line.arguments)
    if low == high and count != low:
        raise Usage(f'rorqual-runc: "{command}" requires exactly {low} argument(s)')
    if count < low:
        raise Usage(f'rorqual-runc: "{command}" requires a minimum of {low} argument(s)')
    if high is not None and count > high:
        raise Usage(f'rorqual-runc: "{command}" requires a maximum of {high} argument(s)')
