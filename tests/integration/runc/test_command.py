"""rorqual-runc with runc's arguments, output and exit codes."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from .conftest import Bundle

pytestmark = pytest.mark.root
Runc = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(bundle: Bundle) -> Iterator[Runc]:
    bundle.path.mkdir(exist_ok=True)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "rorqual.runc.main", "--root", bundle.root, *arguments]
        return subprocess.run(
            line, capture_output=True, text=True, cwd=bundle.path, check=False, stdin=subprocess.DEVNULL
        )

    yield run
    run("delete", "--force", "cli")


def _write(bundle: Bundle, *args: str) -> None:
    spec = bundle.spec(*args)
    assert spec.linux is not None
    linux = replace(spec.linux, cgroups_path=f"/{bundle.prefix}/cli")
    (bundle.path / "config.json").write_bytes(replace(spec, linux=linux).to_json())


def test_run_gives_the_programs_output_and_status(bundle: Bundle, command: Runc) -> None:
    _write(bundle, "sh", "-c", "echo out; exit 9")
    done = command("run", "cli")
    assert (done.returncode, done.stdout, done.stderr) == (9, "out\n", "")


def test_the_whole_life(bundle: Bundle, command: Runc) -> None:
    _write(bundle, "sleep", "100")
    line = [sys.executable, "-m", "rorqual.runc.main", "--root", bundle.root, "create", "--pid-file", "pid", "cli"]
    null = subprocess.DEVNULL
    assert subprocess.run(line, cwd=bundle.path, stdin=null, stdout=null, stderr=null, check=False).returncode == 0
    pid = int((bundle.path / "pid").read_text())
    state = json.loads(command("state", "cli").stdout)
    assert (state["status"], state["pid"], state["bundle"]) == ("created", pid, str(bundle.path))
    assert command("start", "cli").returncode == 0
    assert "cannot start an already running container" in command("start", "cli").stderr
    assert command("exec", "cli", "sh", "-c", "exit 5").returncode == 5
    assert command("exec", "cli", "nope").returncode == 255
    assert command("exec", "-t", "cli", "tty").stdout.strip() == "/dev/pts/0"
    assert json.loads(command("ps", "-f", "json", "cli").stdout) == [pid]
    assert command("list", "-q").stdout == "cli\n"
    assert command("pause", "cli").returncode == 0
    assert json.loads(command("state", "cli").stdout)["status"] == "paused"
    assert command("resume", "cli").returncode == 0
    assert command("update", "--pids-limit", "33", "cli").returncode == 0
    assert json.loads(command("events", "--stats", "cli").stdout)["data"]["pids"]["limit"] == 33
    assert "not stopped" in command("delete", "cli").stderr
    assert command("kill", "cli", "KILL").returncode == 0
    assert command("delete", "--force", "cli").returncode == 0
    assert command("state", "cli").returncode == 1


def test_errors_are_logged_as_engines_read_them(bundle: Bundle, command: Runc) -> None:
    _write(bundle, "nope")
    log = bundle.path / "log"
    done = command("--log", str(log), "--log-format", "json", "create", "cli")
    assert done.returncode == 1
    entry = json.loads(log.read_text().splitlines()[-1])
    text = 'unable to start container process: exec: "nope": executable file not found in $PATH'
    assert (entry["level"], entry["msg"]) == ("error", f"runc create failed: {text}")


def test_spec_makes_what_run_takes(bundle: Bundle, command: Runc) -> None:
    assert command("spec").returncode == 0
    assert "Remove it first" in command("spec").stderr
    document = json.loads((bundle.path / "config.json").read_text())
    document["process"].update(terminal=False, args=["echo", "hello"])
    document["linux"]["cgroupsPath"] = f"/{bundle.prefix}/cli"
    (bundle.path / "config.json").write_text(json.dumps(document))
    done = command("run", "cli")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_features(command: Runc) -> None:
    document = json.loads(command("features").stdout)
    assert "rro" in document["mountOptions"]
    assert document["linux"]["seccomp"]["enabled"]


@pytest.mark.parametrize("arguments", [("nope",), ("state",), ("run", "--nope", "x"), ("--log-format", "x", "list")])
def test_bad_usage(command: Runc, arguments: tuple[str, ...]) -> None:
    done = command(*arguments)
    assert done.returncode == 1
    assert done.stderr
    assert "Traceback" not in done.stderr
