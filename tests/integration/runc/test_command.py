"""rorqual-runc with runc's arguments, output and exit codes."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.terminal import CTRL_C, Terminal

from .conftest import Bundle, group_directories

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
    assert done.returncode == (3 if arguments == ("nope",) else 1)
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_options_may_follow_the_id_but_not_a_users_command(bundle: Bundle, command: Runc) -> None:
    _write(bundle, "sleep", "100")
    with (bundle.path / "out").open("w") as out:  # a pipe would be held open by the container
        line = [sys.executable, "-m", "rorqual.runc.main", "--root", bundle.root, "run", "cli", "--detach"]
        assert subprocess.run(line, cwd=bundle.path, stdin=subprocess.DEVNULL, stdout=out, stderr=out).returncode == 0
    assert command("exec", "cli", "echo", "--tty").stdout == "--tty\n"
    assert command("delete", "cli", "--force").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("state", "cli"), 1, "container does not exist"),
        (("delete", "cli"), 1, "container does not exist"),
        (("delete", "--force", "cli"), 0, ""),
        (("run",), 1, "requires exactly 1 argument"),
        (("run", "--bundle", "/nowhere", "cli"), 1, "chdir /nowhere: no such file or directory"),
        (("run", "a b"), 1, "invalid container ID format"),
        (("--systemd-cgroup", "run", "cli"), 1, "systemd"),
        (("checkpoint", "cli"), 1, "container does not exist"),
        (("list", "-f", "yaml"), 1, "invalid format option"),
        (("help", "exec"), 0, ""),
        (("--version",), 0, ""),
    ],
)
def test_refusals_are_runcs(bundle: Bundle, command: Runc, arguments: tuple[str, ...], status: int, text: str) -> None:
    _write(bundle, "true")
    done = command(*arguments)
    assert done.returncode == status, done.stderr
    assert text in done.stderr


@pytest.fixture
def running(bundle: Bundle, command: Runc) -> Runc:
    """A container `cli` that runs."""
    _write(bundle, "sleep", "100")
    line = [sys.executable, "-m", "rorqual.runc.main", "--root", bundle.root, "run", "-d", "cli"]
    null = subprocess.DEVNULL
    subprocess.run(line, cwd=bundle.path, stdin=null, stdout=null, stderr=null, check=True)
    return command


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("-u", "4294967295"), "uids and gids must be in range 0-2147483647"),
        (("-u", "0:4294967295"), "uids and gids must be in range 0-2147483647"),
        (("-g", "4294967295"), "uids and gids must be in range 0-2147483647"),
        (("-u", "bad"), "as int for uid failed"),
        (("-e", "X"), "process.env"),
        (("--cwd", "relative"), "must be absolute"),
        (("--cap", "CAP_NONE"), "unknown capability"),
        (("--process-label", "x"), "process.selinuxLabel"),
        (("-d", "-t"), "cannot allocate tty if runc will detach without setting console socket"),
        (("--console-socket", "/x"), "cannot use console socket if runc will not detach or allocate tty"),
        (("--cgroup", "nope"), "no such file or directory"),
        (("--cgroup", ".."), "bad sub cgroup path: .."),
        (("--cgroup", "pids:a/../../.."), "bad sub cgroup path: a/../../.."),
        (("--process", "/nowhere"), "open /nowhere: no such file or directory"),
        (("--preserve-fds", "9"), "preserved-fd"),
    ],
)
def test_an_exec_is_refused_by_name(running: Runc, options: tuple[str, ...], text: str) -> None:
    done = running("exec", *options, "cli", "true")
    assert done.returncode == 255
    assert text in done.stderr


def test_exec_options_shape_the_process(running: Runc) -> None:
    script = "id; echo $A; pwd; while read k v; do case $k in Groups:|NoNewPrivs:|CapBnd:) echo $k $v;; esac; done"
    done = running(
        "exec", "-u", "33:34", "-g", "50", "-e", "A=b=c", "--cwd", "/tmp", "--no-new-privs", "--cap", "CAP_SYS_TIME",
        "cli", "sh", "-c", f"{script} < /proc/self/status",
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0].startswith("uid=33(www) gid=34(www) groups=50"), done.stderr
    assert lines[1:3] == ["b=c", "/tmp"]
    shown = dict(line.split(": ", 1) for line in lines[3:])
    assert shown["Groups"].strip() == "50"
    assert shown["NoNewPrivs"] == "1"
    assert int(shown["CapBnd"], 16) >> 25 & 1


def test_limits_are_changed_and_bad_ones_named(running: Runc) -> None:
    assert running("update", "--memory", "32m", "--cpu-share", "512", "cli").returncode == 0
    stats = json.loads(running("events", "--stats", "cli").stdout)["data"]
    assert stats["memory"]["usage"]["limit"] == 32 << 20
    for options, text in (
        (("--memory", "lots"), "invalid value for memory"),
        (("--cpu-quota", "x"), "invalid value for cpu-quota"),
        (("--l3-cache-schema", "x"), "is not enabled"),
        (("-r", "/nowhere"), "open /nowhere"),
        (("--cpuset-cpus", "4000"), "cpuset.cpus"),
    ):
        done = running("update", *options, "cli")
        assert done.returncode == 1
        assert text in done.stderr
    running("kill", "cli", "KILL")
    assert running("update", "--memory", "16m", "cli").returncode == 1


def test_events_take_go_durations(running: Runc) -> None:
    for text in ("0s", "-1s"):
        assert "must be greater than 0" in running("events", "--interval", text, "cli").stderr
    for text in ("x", "5", "1m2"):
        assert "parse error" in running("events", "--interval", text, "cli").stderr


def test_run_at_a_terminal_passes_keys_sizes_and_the_status(bundle: Bundle, command: Runc) -> None:
    script = 'trap "echo interrupted; exit 4" INT; trap "stty size" WINCH; stty size; tty; while :; do sleep 0.1; done'
    spec = bundle.spec("sh", "-c", script, process={"terminal": True})
    assert spec.linux is not None
    linux = replace(spec.linux, cgroups_path=f"/{bundle.prefix}/cli")
    (bundle.path / "config.json").write_bytes(replace(spec, linux=linux).to_json())
    line = [
        sys.executable,
        "-m",
        "rorqual.runc.main",
        "--root",
        bundle.root,
        "run",
        "--bundle",
        str(bundle.path),
        "cli",
    ]
    with Terminal(line, rows=30, columns=90) as terminal:
        terminal.expect("30 90")
        terminal.expect("/dev/pts/0")
        terminal.resize(40, 100)
        terminal.expect("40 100")
        terminal.type(CTRL_C)
        terminal.expect("interrupted")
        assert terminal.ends() == 4


def test_limits_come_from_standard_input_too(bundle: Bundle, running: Runc) -> None:
    line = [sys.executable, "-m", "rorqual.runc.main", "--root", bundle.root, "update", "-r", "-", "cli"]
    given = '{"memory": {"limit": 20971520}, "pids": {"limit": 7}}'
    assert subprocess.run(line, input=given, text=True, check=False).returncode == 0
    stats = json.loads(running("events", "--stats", "cli").stdout)["data"]
    assert (stats["memory"]["usage"]["limit"], stats["pids"]["limit"]) == (20971520, 7)
    bad = subprocess.run(line, input='{"pids": {"limit": "x"}}', text=True, capture_output=True, check=False)
    assert bad.returncode == 1
    assert "pids.limit must be an integer" in bad.stderr


def test_exec_of_a_document_detached(bundle: Bundle, running: Runc, tmp_path: Path) -> None:
    document = {"args": ["sleep", "50"], "cwd": "/tmp", "env": ["PATH=/bin"], "user": {"uid": 33, "gid": 34}}
    (tmp_path / "process.json").write_text(json.dumps(document))
    line = [sys.executable, "-m", "rorqual.runc.main", "--root", bundle.root, "exec", "-d"]
    null = subprocess.DEVNULL
    options = ["--process", str(tmp_path / "process.json"), "--pid-file", str(tmp_path / "pid"), "cli"]
    assert subprocess.run([*line, *options], stdin=null, stdout=null, stderr=null, check=False).returncode == 0
    pid = int((tmp_path / "pid").read_text())
    assert pid in json.loads(running("ps", "-f", "json", "cli").stdout)
    assert Path(f"/proc/{pid}").stat().st_uid == 33


def test_a_terminal_goes_to_the_console_socket(bundle: Bundle, running: Runc, tmp_path: Path) -> None:
    path = str(tmp_path / "console.sock")
    line = [sys.executable, "-m", "rorqual.runc.main", "--root", bundle.root, "exec", "-d", "-t"]
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        server.settimeout(20)
        null = subprocess.DEVNULL
        done = subprocess.run([*line, "--console-socket", path, "cli", "tty"], stdin=null, check=False)
        assert done.returncode == 0
        connection, _ = server.accept()
        with connection:
            name, fds, _, _ = socket.recv_fds(connection, 4096, 1)
    assert name == b"/dev/ptmx"
    assert os.read(fds[0], 100).strip() == b"/dev/pts/0"
    os.close(fds[0])


def test_an_exec_goes_below_the_containers_group(bundle: Bundle, running: Runc) -> None:
    pids = next((d for d in group_directories(bundle.prefix) if "/pids/" in d), None)
    if pids is None:
        pytest.skip("this host has cgroup v2, where a group with processes has none below")
    os.mkdir(f"{pids}/cli/sub")
    done = running("exec", "--cgroup", "pids:sub", "cli", "cat", "/proc/self/cgroup")
    assert done.returncode == 0, done.stderr
    groups = {line.split(":")[1]: line.split(":")[2] for line in done.stdout.splitlines()}
    assert groups["pids"].endswith("/cli/sub")
    assert groups["memory"].endswith("/cli")


def test_period_and_quota_change_below_a_group_with_a_quota(bundle: Bundle, running: Runc) -> None:
    """Whichever is written first: the share must never be above the parent's on the way."""
    parent = next((d for d in group_directories(bundle.prefix) if "/cpu/" in d), None)
    if parent is None:
        pytest.skip("this host has cgroup v2, where both are one file")
    Path(f"{parent}/cpu.cfs_quota_us").write_text("50000")
    assert running("update", "--cpu-quota", "60000", "cli").returncode == 1
    for period, quota in (("100000", "30000"), ("10000", "3000"), ("100000", "40000")):
        assert running("update", "--cpu-period", period, "--cpu-quota", quota, "cli").returncode == 0
        assert Path(f"{parent}/cli/cpu.cfs_quota_us").read_text().strip() == quota
        assert Path(f"{parent}/cli/cpu.cfs_period_us").read_text().strip() == period
