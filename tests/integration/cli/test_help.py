"""--help of every command, beside the stock command line's: the same usage, aliases, flags and lines."""

import shutil
import subprocess

import pytest
from support.command_table import rows
from support.engine import Engine

from rorqual.cli import registry

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("docker") is None, reason="the stock command line is not installed"),
]

COMMANDS = [row.command for row in rows("container", "volume", "system", "version", "inspect", "context")]
# What ours lists and the stock command line hides from an engine without swarm and experimental features, or has not.
MORE = {
    "start": {"checkpoint", "checkpoint-dir"},
    "update": {"publish-add", "publish-rm"},
    "volume create": {
        "availability", "group", "limit-bytes", "required-bytes", "scope", "secret", "sharing", "topology-preferred",
        "topology-required", "type",
    },
    "volume ls": {"cluster"},
    "volume update": {"availability"},
}  # fmt: skip


def shown(program: str, engine: Engine, *words: str) -> str:
    cli = engine.docker if program == "docker" else engine.rorqual
    done = subprocess.run(
        [*cli.argv, *words], capture_output=True, text=True, env=cli.environment, stdin=subprocess.DEVNULL, check=True
    )
    text = done.stdout.replace("rorqual", "docker").replace("Rorqual", "Docker")
    return text.replace("/root/.rorqual", "/root/.docker")


def flags(text: str) -> dict[str, str]:
    """Each flag with its line's words, wherever the columns are."""
    lines: dict[str, str] = {}
    name = ""
    for line in text.partition("\nOptions:\n")[2].splitlines():
        left = line[:9].strip()
        if (line[:6].strip() == "" and line[6:8] == "--") or left.startswith("-"):
            name = line.split("--")[1].split()[0]
        lines[name] = " ".join(f"{lines.get(name, '')} {line}".split())
    return lines


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_the_stock_command_lines(shared_engine: Engine, command: str) -> None:
    words = command.split()
    stock, ours = shown("docker", shared_engine, *words, "--help"), shown("rorqual", shared_engine, *words, "--help")
    more = MORE.get(command.removeprefix("container "), set())
    if more:
        assert more <= set(flags(ours)) - set(flags(stock))
        assert {name: line for name, line in flags(ours).items() if name not in more} == flags(stock)
        stock, ours = (text.partition("\nOptions:\n")[0].rstrip() for text in (stock, ours))
    assert ours == stock


@pytest.mark.parametrize("command", COMMANDS)
def test_every_spelling_is_the_same_command(command: str) -> None:
    (row,) = (row for row in rows(*command.split()[:1], "container", "system", "volume") if row.command == command)
    found = {registry.find(name.split()) for name in (row.command, *row.aliases)}
    modules = {entry and entry[0] for entry in found}
    assert len(modules) == 1 and None not in modules
