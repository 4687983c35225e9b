"""`--runtime runc` and `--runtime crun`: another OCI runtime behind the same shim does what the built-in one does."""

import json
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.engine import Cli, Engine
from support.processes import alive, wait_for
from support.terminal import Terminal

pytestmark = pytest.mark.root

# crun refuses a host whose cgroup v2 mount beside v1 has controllers: the engine runs where it is not mounted.
_WITHOUT_UNIFIED = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'
_COUNTING = "trap 'exit 0' TERM; i=0; while :; do echo line $i; i=$((i+1)); sleep 0.1; done"


class _Engine(Engine):
    """An engine with a mount namespace of its own, in which cgroup v2 is not mounted."""

    @property
    def daemon_argv(self) -> list[str]:
        return ["unshare", "-m", "--propagation", "private", "sh", "-c", _WITHOUT_UNIFIED, "-", *super().daemon_argv]


class Configured(Engine):
    """An engine with a daemon.json."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        super().__init__()

    @property
    def daemon_argv(self) -> list[str]:
        (self.root / "daemon.json").write_text(json.dumps(self._document))
        return super().daemon_argv


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    names = {name: path for name in ("runc", "crun") if (path := shutil.which(name))}
    flags = [f"--add-runtime={name}={path}" for name, path in names.items()]
    with _Engine(*flags) as engine:
        yield engine


@pytest.fixture(params=["runc", "crun"])
def runtime(request: pytest.FixtureRequest) -> str:
    if not shutil.which(request.param):
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


@pytest.fixture
def cli(engine: Engine) -> Iterator[Cli]:
    yield engine.rorqual
    for container in engine.api("GET", "/containers/json?all=1").json:
        engine.api("DELETE", f"/containers/{container['Id']}?force=1&v=1")


def test_run_gives_output_status_and_network(cli: Cli, runtime: str) -> None:
    script = "cat; hostname; ip addr show eth0 | grep -c 'inet '; echo err >&2; exit 7"
    result = cli(
        "run", "-i", "--rm", "-h", "there", "--runtime", runtime, "busybox", "sh", "-c", script, stdin=b"in\n", code=7
    )
    assert (result.out, result.err) == ("in\nthere\n1\n", "err\n")


def test_a_missing_command_is_told_as_the_runtime_tells_it(cli: Cli, runtime: str) -> None:
    result = cli("run", "--runtime", runtime, "busybox", "nosuch", code=None)
    assert "OCI runtime create failed: " in result.err and "nosuch" in result.err
    assert result.err.count("create failed") == (2 if runtime == "runc" else 1)
    assert result.code == 127
    cli("run", "--rm", "--runtime", runtime, "busybox", "true")


def test_exec_has_its_own_status_and_terminal(cli: Cli, engine: Engine, runtime: str) -> None:
    cli("run", "-d", "--name", "box", "--runtime", runtime, "busybox", "sleep", "1000")
    cli("exec", "box", "sh", "-c", "echo in; exit 3", code=3)
    cli("exec", "box", "nosuch", code=126)
    with Terminal([*cli.argv, "exec", "-it", "box", "sh"], cli.environment) as terminal:
        terminal.line("tty; echo $((40+2))")
        terminal.expect("/dev/pts/0")
        terminal.expect("42")
        terminal.line("exit 5")
        assert terminal.ends() == 5


def test_run_with_a_terminal(cli: Cli, runtime: str) -> None:
    with Terminal(
        [*cli.argv, "run", "-it", "--rm", "--runtime", runtime, "busybox", "sh"], cli.environment
    ) as terminal:
        terminal.line("stty size; echo $((40+2)); exit 4")
        terminal.expect("24 80")
        terminal.expect("42")
        assert terminal.ends() == 4


def test_pause_update_and_figures(cli: Cli, engine: Engine, runtime: str) -> None:
    cli("run", "-d", "--name", "box", "-m", "64m", "--runtime", runtime, "busybox", "sh", "-c", _COUNTING)
    cli("pause", "box")
    assert engine.inspect("box")["State"]["Paused"]
    cli("unpause", "box")
    cli("update", "--memory", "32m", "--memory-swap", "64m", "box")
    shown = cli.out("exec", "box", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
    assert shown == str(32 << 20)
    assert "sleep" in cli.out("top", "box")
    assert cli.out("logs", "--tail", "1", "box").startswith("line ")


def test_stop_start_restart_and_kill_of_a_paused_one(cli: Cli, engine: Engine, runtime: str) -> None:
    cli("run", "-d", "--name", "box", "--runtime", runtime, "busybox", "sh", "-c", _COUNTING)
    wait_for(lambda: "line 1" in cli.out("logs", "box"), "it runs")
    cli("stop", "box")
    assert engine.inspect("box")["State"]["ExitCode"] == 0
    cli("start", "box")
    cli("restart", "-t", "0", "box")
    cli("pause", "box")
    cli("kill", "box")
    assert engine.inspect("box")["State"]["ExitCode"] == 137


def test_out_of_memory_is_seen(cli: Cli, engine: Engine, runtime: str) -> None:
    cli("run", "--name", "box", "--runtime", runtime, "-m", "8m", "busybox", "tail", "/dev/zero", code=137)
    assert engine.inspect("box")["State"]["OOMKilled"]


def test_what_shares_the_hosts_pids_ends_with_init(cli: Cli, engine: Engine, runtime: str) -> None:
    script = "sleep 1000 & echo $!; wait"
    cli("run", "-d", "--name", "box", "--pid", "host", "--runtime", runtime, "busybox", "sh", "-c", script)
    wait_for(lambda: cli.out("logs", "box"), "its pid is told")
    background = int(cli.out("logs", "box"))
    assert alive(background)
    cli("kill", "box")
    wait_for(lambda: not alive(background), "the background process is gone")


def test_it_survives_the_death_of_the_daemons(cli: Cli, engine: Engine, runtime: str) -> None:
    cli("run", "-d", "--name", "box", "--runtime", runtime, "busybox", "sh", "-c", _COUNTING)
    pid = engine.inspect("box")["State"]["Pid"]
    engine.kill("rorquald")
    engine.kill("containerd")
    time.sleep(0.5)  # it counts on meanwhile
    engine.start()
    assert engine.inspect("box")["State"]["Pid"] == pid
    cli("exec", "box", "true")
    lines = [int(line.split()[1]) for line in cli.out("logs", "box").splitlines()]
    assert lines == list(range(len(lines))) and len(lines) >= 4


def test_a_killed_shim_leaves_nothing_of_it(cli: Cli, engine: Engine, runtime: str) -> None:
    cli("run", "-d", "--name", "box", "--runtime", runtime, "busybox", "sleep", "1000")
    state = engine.inspect("box")
    engine.kill("shim", state["Id"])
    wait_for(lambda: not engine.running("box"), "its end is seen")
    assert engine.inspect("box")["State"]["ExitCode"] == 137
    wait_for(lambda: not alive(state["State"]["Pid"]), "its process has gone too")
    cli("start", "box")


def test_an_unknown_runtime_is_refused(cli: Cli) -> None:
    result = cli("run", "--runtime", "nosuch", "busybox", "true", code=125)
    assert "unknown or invalid runtime name: nosuch" in result.err


def test_info_lists_the_runtimes(engine: Engine, runtime: str) -> None:
    assert engine.api("GET", "/info").json["Runtimes"][runtime]["path"] == shutil.which(runtime)


def test_the_default_runtime_of_daemon_json_and_its_arguments() -> None:
    binary = shutil.which("runc")
    if binary is None:
        pytest.skip("runc is not installed")
    document = {"runtimes": {"careful": {"path": binary, "runtimeArgs": ["--debug"]}}, "default-runtime": "careful"}
    with Configured(document) as other:
        other.rorqual("run", "--name", "box", "busybox", "true")
        assert other.inspect("box")["HostConfig"]["Runtime"] == "careful"
