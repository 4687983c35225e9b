"""Docker's tables (docs/spec): the commands of its command line with their flags, the operations of its API."""

import re
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).resolve().parents[2] / "docs" / "spec" / "cli-commands.tsv"


@dataclass(frozen=True, slots=True)
class Row:
    """A command as one of its spellings, and the long names of its flags."""

    command: str
    aliases: tuple[str, ...]
    flags: tuple[str, ...]

    @property
    def shortest(self) -> str:
        """The spelling with the fewest letters, which names the command in tests: `ps` for `container list`."""
        return min((self.command, *self.aliases), key=lambda name: (len(name.split()), len(name)))


def rows(*groups: str) -> list[Row]:
    """The commands of these groups (`container`, `volume` ...) under every spelling that the table has."""
    found = []
    for line in TABLE.read_text().splitlines():
        if line and not line.startswith("#"):
            command, _, aliases, flags = (*line.split("\t"), "", "")[:4]
            names = tuple(alias.removeprefix("docker ") for alias in aliases.split(", ") if alias)
            row = Row(command, names, tuple(re.findall(r"--([\w-]+)", flags)))
            if {name.split()[0] for name in (command, *names) if " " in name} & set(groups) or command in groups:
                found.append(row)
    return found


def cases(*groups: str) -> list[str]:
    """What is to be shown: each command of these groups by its shortest name, and each of its flags with it."""
    found = []
    for row in rows(*groups):
        found += [row.shortest, *(f"{row.shortest} --{flag}" for flag in row.flags if flag != "help")]
    return list(dict.fromkeys(found))


OPERATIONS = TABLE.with_name("engine-endpoints.tsv")


def operations(*groups: str) -> list[str]:
    """`Operation parameter` for each query parameter and body of the operations whose names begin so."""
    found = []
    for line in OPERATIONS.read_text().splitlines():
        if line and not line.startswith("#"):
            _, _, operation, parameters = (*line.split("\t"), "")[:4]
            if operation.startswith(groups):
                found += [f"{operation} {name}" for name in parameters.split(",") if name and "header:" not in name]
    return found
