"""The command line as a whole, without an engine: dispatch, errors, exit codes, and what start-up costs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rorqual.cli import registry
from rorqual.cli.config import Config
from rorqual.cli.main import load, main
from rorqual.cli.timestamps import to_timestamp

MODULES = sorted(
    {m for _, verbs in registry.GROUPS.values() for m, _ in verbs.values()}
    | {m for m, _ in registry.COMMON.values()}
    | {m for m, _ in registry.OTHERS.values()}
    | set(registry.HIDDEN.values())
)


@pytest.fixture(autouse=True)
def no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RORQUAL_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))


@pytest.mark.parametrize("module", MODULES)
def test_every_command_loads_and_has_help(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = load(module)
    shorts = [flag[1] for flag in command.flags if flag[1]]
    names = [flag[0] for flag in command.flags]
    assert len(set(shorts)) == len(shorts) and len(set(names)) == len(names)
    assert set(command.validators or ()) <= set(names)
    assert set((command.renamed or {}).values()) <= set(names)


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (["foo"], 1, "rorqual: unknown command: rorqual foo\n\nRun 'rorqual --help' for more information\n"),
        (
            ["stop"],
            1,
            "rorqual: 'rorqual stop' requires at least 1 argument\n\n"
            "Usage:  rorqual stop [OPTIONS] CONTAINER [CONTAINER...]\n\n"
            "See 'rorqual stop --help' for more information\n",
        ),
        (
            ["run", "--foo", "x"],
            125,
            "unknown flag: --foo\n\nUsage:  rorqual run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\n"
            "Run 'rorqual run --help' for more information\n",
        ),
        (["ps", "a"], 1, "rorqual: 'rorqual ps' accepts no arguments\n\nUsage:  rorqual ps [OPTIONS]\n\n"
         "Run 'rorqual ps --help' for more information\n"),
        (["container", "foo"], 1, "rorqual: unknown command: rorqual container foo\n\nUsage:  rorqual container\n\n"
         "Run 'rorqual container --help' for more information\n"),
    ],
)  # fmt: skip
def test_mistakes(args: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == code
    assert capsys.readouterr().err == text


def test_no_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"Cannot connect to the Rorqual daemon at unix://{tmp_path}/none.sock. Is the rorqual daemon running?"
    assert main(["ps"]) == 1
    assert capsys.readouterr().err == text + "\n"
    assert main(["run", "--rm", "x"]) == 125
    assert capsys.readouterr().err.startswith(f"rorqual: {text}\n")
    assert main(["version"]) == 1
    assert capsys.readouterr().out.startswith("Client: Rorqual\n")


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Usage:  rorqual [OPTIONS] COMMAND\n") and "Common Commands:\n  run         Create" in text
    assert main(["help", "ps"]) == main(["ps", "--help"]) == main(["container", "ls", "-h"]) == 0
    assert "rorqual container ls, rorqual container list" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("Rorqual version ")


def test_completion_offers_commands_and_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["__complete", "sto"]) == 0
    assert capsys.readouterr().out == "stop\tStop one or more running containers\n"
    assert main(["__complete", "container", "ren"]) == 0
    assert capsys.readouterr().out.startswith("rename\t")
    assert main(["__complete", "run", "--net"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("--network\t")
    for shell in ("bash", "zsh", "fish"):
        assert main(["completion", shell]) == 0
        assert "__complete" in capsys.readouterr().out


def test_completion_of_compose(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("services: {web: {image: x}, db: {image: x}}")
    for words, expected in (
        (["compose", "--proj"], ["--project-directory", "--project-name"]),
        (["compose", "-f", str(file), "sto"], ["stop"]),
        (["compose", "-f", str(file), "up", "w"], ["web"]),
        (["compose", "-f", str(file), "up", "--det"], ["--detach"]),
        (["compose", "-f", ""], []),
        (["compose", "--odd", "x", "up", ""], []),
        (["compose", "-f", "/none.yaml", "up", ""], []),
    ):
        assert main(["__complete", *words]) == 0
        assert [line.partition("\t")[0] for line in capsys.readouterr().out.splitlines()] == expected


def test_global_flags_before_a_command_do_not_hide_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["__complete", "-H", "unix:///nonexistent", "ps", "--lat"]) == 0
    assert capsys.readouterr().out.startswith("--latest\t")
    assert main(["__complete", "--context", ""]) == 0
    assert capsys.readouterr().out == ""
    assert main(["__complete", "-D", "conte"]) == 0
    assert capsys.readouterr().out == "context\tManage contexts\n"


COMMANDS = {
    "ps": ["container.ls"],
    "images": ["image.ls"],
    "run --rm busybox true": ["container.run"],
    "exec box true": ["container.exec"],
    "logs box": ["container.logs"],
}


@pytest.mark.parametrize("line", COMMANDS)
def test_start_up_imports_only_what_it_needs(line: str) -> None:
    program = (
        "import sys; before = set(sys.modules); from rorqual.cli.main import main;"
        f"main(['-H', 'unix:///nonexistent', *{line.split()!r}]); print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    loaded = set(eval(done.stdout.splitlines()[-1]))
    assert not loaded & set(HEAVY)
    groups = {m for m in loaded if m.startswith("rorqual.cli.commands.") and m.count(".") > 3}
    assert groups == {f"rorqual.cli.commands.{module}" for module in COMMANDS[line]}
    assert {m for m in loaded if m.startswith(("rorqual.cli.gotemplate", "rorqual.oci."))} == {"rorqual.oci.jsontext"}


# A third of what a short command takes was `re` and `enum`, which most of the standard library imports.
HEAVY = (
    "click",
    "dataclasses",
    "inspect",
    "typing",
    "http.client",
    "asyncio",
    "aiohttp",
    "ssl",
    "subprocess",
    "socket",
    "re",
    "enum",
    "json",
    "signal",
    "functools",
    "collections",
    "importlib",
    "base64",
)


def test_credentials_are_dockers_own_file(tmp_path: Path) -> None:
    config = Config.load(str(tmp_path / "config"))
    assert config.credentials("reg:5000") == {}
    config.store({"username": "u", "password": "p", "serveraddress": "reg:5000"})
    stored = json.loads((tmp_path / "config" / "config.json").read_text())
    assert stored == {"auths": {"reg:5000": {"auth": "dTpw"}}}
    assert (tmp_path / "config" / "config.json").stat().st_mode & 0o777 == 0o600
    again = Config.load(str(tmp_path / "config"))
    assert again.credentials("reg:5000")["password"] == "p"
    assert again.erase("reg:5000") and not again.erase("reg:5000")


def test_credential_helpers_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text('#!/bin/sh\ncat >/dev/null\necho \'{"Username":"u","Secret":"s"}\'\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    config = Config(str(tmp_path / "c.json"), {"credsStore": "test"})
    assert config.credentials("r")["password"] == "s"


def test_contexts_name_an_engine(tmp_path: Path) -> None:
    import hashlib

    meta = tmp_path / "contexts" / "meta" / hashlib.sha256(b"box").hexdigest()
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text('{"Name":"box","Endpoints":{"docker":{"Host":"tcp://h:1"}}}')
    config = Config(str(tmp_path / "config.json"), {})
    assert config.context_endpoint("box")[0] == "tcp://h:1"
    assert config.context_endpoint("default") == (None, None)


def test_times_of_since() -> None:
    assert to_timestamp("since", "") == ""
    assert to_timestamp("since", "10s", now=100.0) == "90.000000000"
    assert to_timestamp("since", "1136073600") == "1136073600"
    assert to_timestamp("since", "2006-01-02T15:04:05.5Z") == "1136214245.500000000"
    assert to_timestamp("since", "2006-01-02T15:04:05+01:00") == "1136210645.000000000"
