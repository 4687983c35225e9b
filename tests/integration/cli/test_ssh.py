"""ssh://: the engine is reached through `system dial-stdio` on the other side; ssh is played by a script here."""

import subprocess
from pathlib import Path

import pytest
from support.engine import Cli, Engine, command

pytestmark = pytest.mark.root


@pytest.fixture(params=["docker", "rorqual"])
def over_ssh(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> Cli:
    """A command line whose ssh does not go anywhere: it runs the other side's command on this machine."""
    script = tmp_path / "ssh"
    script.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path / "asked"}\nexec {command("rorqual")} -H {engine.host} system dial-stdio\n'
    )
    script.chmod(0o755)
    chosen = engine.docker if request.param == "docker" else engine.rorqual

    class OverSsh(Cli):
        @property
        def argv(self) -> list[str]:
            return [chosen.argv[0], "-H", "ssh://somebody@far.example:2222"]

        @property
        def environment(self) -> dict[str, str]:
            given = chosen.environment
            return {**given, "PATH": f"{tmp_path}:{given['PATH']}"}

    return OverSsh(engine, request.param)


def test_commands_and_streams_pass_through_ssh(over_ssh: Cli, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4000
    done = subprocess.run(
        [*over_ssh.argv, "run", "--rm", "-i", "--network", "none", "busybox", "cat"],
        input=data,
        capture_output=True,
        env=over_ssh.environment,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data
    assert over_ssh("run", "--rm", "--network", "none", "busybox", "sh", "-c", "exit 7", code=7)
    assert "busybox" in over_ssh.out("images")
    asked = (tmp_path / "asked").read_text().splitlines()[0]
    assert "-p 2222" in asked and "far.example" in asked and asked.endswith("system dial-stdio")


@pytest.mark.parametrize("host", ["ssh://-oProxyCommand=touch%20x", "ssh://-oProxyCommand=touch x/", "ssh://a@-x"])
def test_a_host_is_never_an_option_of_ssh(engine: Engine, tmp_path: Path, host: str) -> None:
    (tmp_path / "ssh").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path / "asked"}\nexit 1\n')
    (tmp_path / "ssh").chmod(0o755)
    environment = {**engine.rorqual.environment, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    argv = [engine.rorqual.argv[0], "-H", host, "ps"]
    done = subprocess.run(argv, capture_output=True, env=environment, timeout=30, check=False)
    assert done.returncode == 1
    if (tmp_path / "asked").exists():
        words = (tmp_path / "asked").read_text().splitlines()
        assert words.index("--") < next(i for i, word in enumerate(words) if word.startswith("-oProxy") or word == "-x")


@pytest.mark.timeout(60)
def test_input_and_output_larger_than_any_buffer_pass_at_once(engine: Engine) -> None:
    """On the plain socket: a client that waits to be read from while it should read would wait for ever."""
    data = bytes(range(256)) * (30 << 12)
    argv = [*engine.rorqual.argv, "run", "--rm", "-i", "--network", "none", "busybox", "cat"]
    done = subprocess.run(
        argv, input=data, capture_output=True, env=engine.rorqual.environment, timeout=50, check=False
    )
    assert (done.returncode, done.stdout == data) == (0, True)
