"""Standard streams and exit codes of `run`, `start -a`, `exec`, `attach` and `logs`, with both command lines."""

import hashlib
import os
import signal
import time

import pytest
from support.engine import Cli, Engine
from support.processes import wait_for

pytestmark = pytest.mark.root


def test_stdin_is_piped_through_and_its_end_ends_the_program(cli: Cli) -> None:
    assert cli("run", "-i", "--rm", "busybox", "cat", stdin=b"hi\n").out == "hi\n"


def test_megabytes_pass_in_both_directions_unchanged(cli: Cli) -> None:
    data = os.urandom(1 << 16) * 128  # 8 MB
    out = cli("run", "-i", "--rm", "busybox", "sh", "-c", "tee /tmp/x | sha256sum; wc -c </tmp/x", stdin=data).out
    assert out.split()[0] == hashlib.sha256(data).hexdigest()
    assert out.split()[-1] == str(len(data))


def test_stdout_and_stderr_stay_apart(cli: Cli) -> None:
    result = cli("run", "--rm", "busybox", "sh", "-c", "echo one; echo two >&2")
    assert (result.out, result.err) == ("one\n", "two\n")


def test_output_written_just_before_the_end_is_never_lost(cli: Cli) -> None:
    for _ in range(5):
        out = cli("run", "--rm", "busybox", "sh", "-c", "yes 0123456789 | head -n 20000").out
        assert len(out) == 220_000


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (("run", "--rm", "busybox", "sh", "-c", "exit 3"), 3, ""),
        (("run", "--rm", "--no-such-flag", "busybox"), 125, "unknown flag: --no-such-flag"),
        (("run", "--rm", "busybox", "/etc/passwd"), 126, "permission denied"),
        (("run", "--rm", "busybox", "no-such-program"), 127, "executable file not found in $PATH"),
        (("run", "--rm", "busybox", "/no/such/program"), 127, "no such file or directory"),
        (("run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"), 137, ""),
    ],
)  # fmt: skip
def test_exit_codes_of_run(cli: Cli, argv: tuple[str, ...], code: int | None, text: str) -> None:
    assert text in cli(*argv, code=code).err


def test_a_killed_container_ends_with_128_and_the_signal(cli: Cli, engine: Engine) -> None:
    for name, number in (("KILL", 9), ("TERM", 15)):
        with cli.started("run", "--rm", "--init", "--name", "victim", "busybox", "sleep", "60") as client:
            wait_for(
                lambda: engine.api("GET", "/containers/victim/json").status == 200 and engine.running("victim"), "up"
            )
            cli("kill", "-s", name, "victim")
            assert client.wait(15) == 128 + number
            wait_for(lambda: engine.api("GET", "/containers/victim/json").status == 404, "removed")


def test_a_container_that_could_not_start_leaves_nothing_with_rm(cli: Cli, engine: Engine) -> None:
    cli("run", "--rm", "busybox", "no-such-program", code=127)
    assert engine.api("GET", "/containers/json?all=1").json == []


def test_exec_runs_in_the_container_and_returns_its_status(cli: Cli) -> None:
    cli("run", "-d", "--name", "box-e", "-e", "A=1", "busybox", "sleep", "60")
    out = cli.out("exec", "-e", "B=2", "-w", "/tmp", "-u", "alice", "box-e", "sh", "-c", "echo $A$B; pwd; id -u")
    assert out.split() == ["12", "/tmp", "1000"]
    assert cli("exec", "-i", "box-e", "cat", stdin=b"into exec").out == "into exec"
    cli("exec", "box-e", "sh", "-c", "exit 7", code=7)
    for program, text in (("no-such-program", "executable file not found"), ("/etc/passwd", "permission denied")):
        result = cli("exec", "box-e", program, code=126)
        assert text in result.out and result.err == ""  # as dockerd 20.10: status and stream do not tell them apart
    cli("exec", "-d", "box-e", "touch", "/tmp/detached")
    wait_for(lambda: cli("exec", "box-e", "test", "-e", "/tmp/detached", code=None).code == 0, "the detached exec ran")


def test_exec_in_a_stopped_container_is_refused(cli: Cli) -> None:
    cli("create", "--name", "box-e", "busybox", "true")
    assert "is not running" in cli("exec", "box-e", "true", code=1).err


def test_signals_are_passed_on_to_the_container(cli: Cli, engine: Engine) -> None:
    with cli.started(
        "run", "--name", "sig", "busybox", "sh", "-c", "trap 'exit 9' INT; echo up; while :; do sleep 0.1; done"
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        client.send_signal(signal.SIGINT)
        assert client.wait(10) == 9
    assert engine.inspect("sig")["State"]["ExitCode"] == 9


def test_attach_sees_what_comes_next_and_returns_the_exit_code(cli: Cli) -> None:
    cli(
        "run",
        "-d",
        "-i",
        "--name",
        "box-a",
        "busybox",
        "sh",
        "-c",
        "while read line; do echo got $line; [ $line = end ] && exit 5; done",
    )
    with cli.started("attach", "box-a") as client:
        assert client.stdin is not None and client.stdout is not None
        for word in (b"one", b"end"):
            client.stdin.write(word + b"\n")
            client.stdin.flush()
            assert client.stdout.readline() == b"got " + word + b"\n"
        assert client.wait(10) == 5


def test_start_attached_runs_again_and_returns_the_exit_code(cli: Cli) -> None:
    cli("create", "--name", "box-s", "busybox", "sh", "-c", "echo again; exit 4")
    for _ in range(2):
        assert cli("start", "-a", "box-s", code=4).out == "again\n"


def test_logs_tail_since_timestamps_and_streams(cli: Cli) -> None:
    cli("run", "--name", "box-l", "busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo $i; done; echo err >&2")
    assert sorted(cli("logs", "box-l").out.split()) == ["1", "2", "3", "4", "5"]
    assert cli("logs", "box-l").err == "err\n"
    result = cli("logs", "--tail", "2", "box-l")
    assert len((result.out + result.err).split()) == 2
    line = cli("logs", "-t", "--tail", "6", "box-l").out.splitlines()[0]
    assert line[:2] == "20" and line.split()[0].endswith("Z") and line.split()[1] == "1"
    assert cli("logs", "--since", "2099-01-01T00:00:00", "box-l").out == ""
    assert cli("logs", "--until", "2001-01-01T00:00:00", "box-l").out == ""


def test_logs_follow_ends_with_the_container(cli: Cli) -> None:
    cli("run", "-d", "--name", "box-f", "busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.2; done")
    started = time.monotonic()
    assert cli("logs", "-f", "box-f").out.split() == ["1", "2", "3", "4", "5"]
    assert time.monotonic() - started < 10


def test_a_container_nobody_reads_is_never_blocked(cli: Cli) -> None:
    cli("run", "-d", "--name", "loud", "busybox", "sh", "-c", "yes | head -c 1000000 && touch /tmp/done; sleep 60")
    wait_for(lambda: cli("exec", "loud", "test", "-e", "/tmp/done", code=None).code == 0, "a megabyte was written")


def test_json_file_logs_rotate(cli: Cli, engine: Engine) -> None:
    cli(
        "run",
        "--name",
        "box-r",
        "--log-opt",
        "max-size=10k",
        "--log-opt",
        "max-file=3",
        "busybox",
        "sh",
        "-c",
        "seq 1 2000",
    )
    container = engine.inspect("box-r")["Id"]
    files = list((engine.data / "containers" / container).glob("*-json.log*"))
    assert len(files) == 3
    assert all(file.stat().st_size <= 11_000 for file in files)
    numbers = [int(n) for n in cli("logs", "box-r").out.split()]
    assert numbers == list(range(numbers[0], 2001))
