"""The daemons' command lines: a table of flags, in the grammar of Docker's (--flag value, --flag=value, -f value).

argparse with what it imports is 1 MB that a daemon keeps for as long as it runs. The client's command line has a reader
of its own (rorqual.cli.flags), with Docker's texts and types.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rorqual.record import record


@record
class Flag:
    """`names` as they are typed; `kind` is text, list (may be repeated) or bool; `choices` are all that are allowed."""

    names: tuple[str, ...]
    kind: str = "text"
    help: str = ""
    choices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The long one."""
        return max(self.names, key=len)


def parse(program: str, about: str, flags: Sequence[Flag], argv: Sequence[str]) -> dict[str, list[str]]:
    """What was given, in order, by long name; a bool without a value is "true".

    Raises: SystemExit for --help (status 0) and for flags that are none (1).
    """
    known = {name: flag for flag in flags for name in flag.names}
    given: dict[str, list[str]] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word in ("--help", "-h") and word not in known:
            sys.stdout.write(_usage(program, about, flags))
            raise SystemExit(0)
        name, equals, value = word.partition("=")
        if not word.startswith("--") and word[:2] in known:
            name, value = word[:2], word[2:].removeprefix("=")
            equals = value
        flag = known.get(name)
        if flag is None:
            what = f"unknown flag: {name}" if word.startswith("-") else f'"{program}" accepts no arguments, but: {word}'
            raise SystemExit(f"{what}\nSee '{program} --help'.")
        if not equals:
            if flag.kind == "bool":
                value = "true"
            elif not rest:
                raise SystemExit(f"flag needs an argument: {name}\nSee '{program} --help'.")
            else:
                value = rest.pop(0)
        choices = ("true", "false") if flag.kind == "bool" else flag.choices
        if choices and value not in choices:
            raise SystemExit(
                f'invalid argument "{value}" for "{name}" flag: it must be {" or ".join(choices)}\n'
                f"See '{program} --help'."
            )
        given.setdefault(flag.name, []).append(value)
    return given


def _usage(program: str, about: str, flags: Sequence[Flag]) -> str:
    rows = []
    for flag in flags:
        short = next((f"{name}, " for name in flag.names if not name.startswith("--")), "    ")
        kind = "" if flag.kind == "bool" else " list" if flag.kind == "list" else " string"
        rows.append((f"  {short}{flag.name}{kind}", flag.help))
    width = max(len(left) for left, _ in rows) + 3
    listing = "".join(f"{left.ljust(width)}{text}".rstrip() + "\n" for left, text in rows)
    return f"Usage:  {program} [OPTIONS]\n\n{about}\n\nOptions:\n{listing}"
