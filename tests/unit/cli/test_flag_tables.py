"""Every command of Docker's that is offered has all of its flags, shorthands, aliases and its usage line."""

import re
from pathlib import Path

import pytest

from rorqual.cli import registry
from rorqual.cli.flags import FlagSet, usages
from rorqual.cli.main import load

SPEC = Path(__file__).resolve().parents[3] / "docs" / "spec"
TABLE = SPEC / "cli-commands.tsv"
COMPOSE = SPEC / "compose-commands.tsv"
GROUPS = ("container", "context", "image", "network", "system", "volume")
# A value that each type reads.
VALUES = {
    "int": "1", "uint": "1", "uint16": "1", "bytes": "1m", "decimal": "1", "duration": "1s", "list": "a=b",
    "map": "a=b", "strings": "a", "string": "a", "filter": "a=b", "stringToString": "host=a", "stringArray": "a=b",
}  # fmt: skip


def rows() -> list[tuple[str, str, str, str]]:
    found = []
    for line in (TABLE.read_text() + COMPOSE.read_text()).splitlines():
        if line and not line.startswith("#"):
            name, usage, aliases, flags = (*line.split("\t"), "", "")[:4]
            words = registry.find(name.split())
            if words is not None and words[1] == len(name.split()):
                found.append((name, usage, aliases, flags))
    return found


@pytest.mark.parametrize(("name", "usage", "aliases", "flags"), rows(), ids=[row[0] for row in rows()])
def test_a_command_has_what_dockers_has(name: str, usage: str, aliases: str, flags: str) -> None:
    found = registry.find(name.split())
    assert found is not None
    command = load(found[0])
    assert usage.startswith(f"docker {name} {command.usage.partition(chr(10))[0]}".rstrip())
    for alias in filter(None, aliases.split(", ")):
        assert registry.find(alias.split()[1:]) == (found[0], len(alias.split()) - 1)
    ours = {flag[0]: flag for flag in command.flags}
    shown = usages(command.flags, 200)
    for text in filter(None, flags.split("; ")):
        match = re.fullmatch(r"(?:-(\w), )?--([\w-]+)(?: (\S+))?", text)
        assert match is not None, text
        short, long, kind = match[1] or "", match[2], match[3] or "bool"
        if long == "help":
            continue
        assert long in ours, f"--{long} is missing"
        assert (ours[long][1], ours[long][2]) == (short, kind)
        hidden = len(ours[long]) > 5 and ours[long][-1] is True
        assert hidden or re.search(rf"--{long}( |$)", shown, re.MULTILINE), f"--{long} is not listed"
        if kind == "bool" or (kind in VALUES and long not in (command.validators or {})):
            arguments = [f"--{long}"] if kind == "bool" else [f"--{long}", VALUES[kind]]
            values, rest = FlagSet(command.flags, renamed=command.renamed).parse(arguments)
            assert values.changed(long) and rest == []


def test_every_command_of_these_groups_is_offered() -> None:
    there = {row[0] for row in rows()}
    wanted = {
        line.split("\t")[0]
        for line in TABLE.read_text().splitlines()
        if line.split()[:1] and line.split()[0] in GROUPS and not line.startswith("#")
    }
    missing = wanted - there
    # Builds and cluster volumes have no engine behind them yet.
    assert missing <= {"image build", "volume update"}


def test_commands_of_compose_that_are_not_offered() -> None:
    wanted = {line.split("\t")[0] for line in COMPOSE.read_text().splitlines() if not line.startswith("#")}
    assert wanted - {row[0] for row in rows()} == {"compose publish"}
