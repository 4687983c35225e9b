"""SIGKILL of any process of the engine: what must go on goes on, and after the restart everything is known again."""

import contextlib
import json
import random
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.engine import Cli, Engine, Result
from support.processes import alive, wait_for
from support.terminal import Terminal

pytestmark = pytest.mark.root

VICTIMS = {
    "rorquald": ("rorquald",),
    "containerd": ("containerd",),
    "both": ("rorquald", "containerd"),
    "spawner": ("spawner",),
    "all three": ("spawner", "rorquald", "containerd"),
}

Crash = Callable[[], None]

# A container that must end only once its daemon is dead.
UNTIL_GO = "while [ ! -e /go ]; do sleep 0.05; done"


def go(pid: int) -> None:
    with open(f"/proc/{pid}/root/go", "w"):
        pass


@pytest.fixture(params=VICTIMS)
def crash(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Crash]:
    """Kills the processes of one row of the matrix; a killed rorquald stays dead until the test starts it again."""

    def kill() -> None:
        for name in VICTIMS[request.param]:
            engine.kill(name)

    yield kill
    if not engine.pids("rorquald"):
        engine.start()


def back(engine: Engine) -> None:
    """Everything that was killed runs again and knows its containers."""
    if not engine.pids("rorquald"):
        engine.start()
    wait_for(lambda: engine.pids("containerd") and engine.pids("spawner"), "containerd and the spawner were restarted")

    def works() -> bool:
        answer = engine.api("GET", "/containers/json?all=1")
        return answer.status == 200

    wait_for(works, "the list of containers")


def ticker(cli: Cli, name: str = "ticker") -> str:
    """A container that writes a line every tenth of a second."""
    return cli.out(
        "run", "-d", "--name", name, "busybox", "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done"
    )


def last_line(engine: Engine, container: str) -> int:
    file = engine.data / "containers" / container / f"{container}-json.log"
    lines = file.read_text().rpartition("\n")[0].splitlines()  # the last may be being written
    return int(json.loads(lines[-1])["log"]) if lines else 0


def test_the_container_and_its_log_go_on_without_a_gap(cli: Cli, engine: Engine, crash: Crash) -> None:
    container = ticker(cli)
    pid = engine.inspect(container)["State"]["Pid"]
    wait_for(lambda: last_line(engine, container) > 2, "the first lines")
    crash()
    at_crash = last_line(engine, container)
    wait_for(lambda: last_line(engine, container) > at_crash + 5, "lines written while the engine is dead")
    back(engine)
    state = engine.inspect(container)["State"]
    assert (state["Running"], state["Pid"]) == (True, pid)
    assert container[:12] in cli.out("ps", "-q")
    assert cli.out("exec", "ticker", "echo", "hi") == "hi"
    cli("kill", "ticker")
    numbers = [int(n) for n in cli.out("logs", "ticker").split()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert cli.out("wait", "ticker") == "137"


def test_stop_wait_and_rm_work_after_the_restart(cli: Cli, engine: Engine, crash: Crash) -> None:
    cli(
        "run",
        "-d",
        "--name",
        "box-s",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 33' TERM; echo up; while :; do sleep 0.1; done",
    )
    wait_for(lambda: "up" in cli.out("logs", "box-s"), "the trap is set")
    crash()
    back(engine)
    with cli.started("wait", "box-s") as waiting:
        time.sleep(0.3)
        cli("stop", "box-s")
        assert waiting.communicate(timeout=20)[0] == b"33\n"
    cli("rm", "box-s")


def test_the_exit_code_of_a_container_that_ended_meanwhile_is_right(cli: Cli, engine: Engine, crash: Crash) -> None:
    container = cli.out("run", "-d", "--name", "box-m", "busybox", "sh", "-c", "sleep 1; echo last words; exit 11")
    crash()
    pid_file = next((engine.exec / "containerd" / "tasks").glob(f"*/{container}/shim.pid"), None)
    time.sleep(1.5)
    back(engine)
    assert cli.out("wait", "box-m") == "11"
    state = engine.inspect("box-m")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 11)
    assert cli.out("logs", "box-m") == "last words"
    wait_for(lambda: not engine.pids("shim", container), f"the shim has gone ({pid_file})")
    cli("start", "box-m")
    assert cli.out("wait", "box-m") == "11"


def test_an_attached_terminal_survives(cli: Cli, engine: Engine, crash: Crash) -> None:
    with Terminal([*cli.argv, "run", "-it", "--name", "box-a", "busybox", "sh"], cli.environment) as terminal:
        terminal.expect(r"/ # ")
        time.sleep(1)  # the prompt may be there before the client has the answer to its start
        crash()
        terminal.line("echo still $((40+2))")
        terminal.expect("still 42")
        back(engine)
        terminal.line("echo again $((40+3))")
        terminal.expect("again 43")
        terminal.expect(r"/ # ")
        terminal.line("exit")
        time.sleep(0.5)
    wait_for(lambda: not engine.running("box-a"), "the shell ended")


def test_an_attached_exec_survives(cli: Cli, engine: Engine, crash: Crash) -> None:
    cli("run", "-d", "--name", "box-e", "busybox", "sleep", "100")
    with cli.started("exec", "-i", "box-e", "cat") as client:
        assert client.stdin is not None and client.stdout is not None
        client.stdin.write(b"one\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"one\n"
        crash()
        client.stdin.write(b"two\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"two\n"
    back(engine)


def test_logs_follow_starts_again_after_the_restart(cli: Cli, engine: Engine, crash: Crash) -> None:
    ticker(cli)
    crash()
    back(engine)
    with cli.started("logs", "-f", "--tail", "1", "ticker") as client:
        assert client.stdout is not None
        first = int(client.stdout.readline())
        assert [int(client.stdout.readline()) for _ in range(5)] == list(range(first + 1, first + 6))


def test_a_published_port_goes_on(cli: Cli, engine: Engine, crash: Crash) -> None:
    cli(
        "run",
        "-d",
        "--name",
        "box-p",
        "-p",
        "18081:80",
        "busybox",
        "sh",
        "-c",
        "mkdir /w; echo page >/w/index.html; httpd -f -h /w",
    )

    def page() -> Any:
        try:
            with engine.inside(), socket.create_connection(("127.0.0.1", 18081), 10) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return b"page" in b"".join(iter(lambda: client.recv(4096), b""))
        except OSError:
            return False

    wait_for(page, "the page before the crash")
    crash()
    assert page(), "the port while the engine is dead"
    back(engine)
    assert page(), "the port after the restart"
    cli("rm", "-f", "box-p")
    wait_for(lambda: not page(), "the port is closed with its container")


def test_new_containers_start_after_the_restart_and_names_are_still_taken(
    cli: Cli, engine: Engine, crash: Crash
) -> None:
    cli("create", "--name", "old", "busybox", "true")
    crash()
    back(engine)
    assert "is already in use" in cli("run", "--name", "old", "busybox", "true", code=125).err
    assert cli.out("run", "--rm", "busybox", "echo", "new") == "new"


def test_death_of_a_shim_is_reported_and_cleaned_up(cli: Cli, engine: Engine) -> None:
    before = engine.held()
    container = cli.out("run", "-d", "--name", "orphan", "busybox", "sh", "-c", "sleep 500 & sleep 500")
    pid = engine.inspect(container)["State"]["Pid"]
    with cli.started("wait", "orphan") as waiting:
        time.sleep(0.3)
        engine.kill("shim", container)
        assert waiting.communicate(timeout=15)[0] == b"137\n"
    wait_for(lambda: not alive(pid), "its process has gone too")
    state = engine.inspect("orphan")["State"]
    assert (state["Running"], state["ExitCode"]) == (False, 137)
    cli("rm", "orphan")
    wait_for(lambda: not engine.held().more_than(before), lambda: str(engine.held().more_than(before)))


def test_death_of_a_shim_while_the_engine_is_dead_is_found_at_start(cli: Cli, engine: Engine) -> None:
    container = cli.out("run", "-d", "--name", "orphan", "busybox", "sleep", "500")
    pid = engine.inspect(container)["State"]["Pid"]
    engine.kill("rorquald")
    engine.kill("containerd")
    engine.kill("shim", container)
    back(engine)
    wait_for(lambda: not engine.running("orphan"), "the end is noticed")
    assert engine.inspect("orphan")["State"]["ExitCode"] == 137
    assert not alive(pid)


def test_an_orderly_restart_keeps_containers(cli: Cli, engine: Engine) -> None:
    container = ticker(cli)
    pid = engine.inspect(container)["State"]["Pid"]
    engine.restart()
    assert engine.inspect(container)["State"]["Pid"] == pid


def test_rm_is_done_after_a_crash_of_the_daemon_during_the_run(cli: Cli, engine: Engine) -> None:
    with cli.started("run", "--rm", "--name", "gone", "busybox", "sh", "-c", UNTIL_GO):
        wait_for(lambda: engine.api("GET", "/containers/gone/json").status == 200 and engine.running("gone"), "it runs")
        pid = engine.inspect("gone")["State"]["Pid"]
        engine.kill("rorquald")
        go(pid)
        wait_for(lambda: not alive(pid), "its end")
        back(engine)
        wait_for(lambda: engine.api("GET", "/containers/gone/json").status == 404, "--rm removed it")


def test_an_image_that_is_known_survives_a_crash_at_once(cli: Cli, engine: Engine) -> None:
    cli("tag", "busybox", "copy:1")
    engine.kill("rorquald")
    engine.kill("containerd")
    back(engine)
    assert cli.out("run", "--rm", "copy:1", "echo", "there") == "there"
    cli("rmi", "copy:1")


@pytest.mark.parametrize("victim", ["containerd", "spawner"])
def test_no_run_notices_a_kill_below_the_daemon(cli: Cli, engine: Engine, victim: str) -> None:
    done: list[Result] = []
    stop = threading.Event()

    def run_again_and_again() -> None:
        while not stop.is_set():
            done.append(cli("run", "--rm", "busybox", "echo", "hi", code=None))

    thread = threading.Thread(target=run_again_and_again)
    thread.start()
    try:
        for kills in range(3):
            wait_for(lambda kills=kills: len(done) > 3 * kills, "runs go on", 30)  # type: ignore[misc]
            time.sleep(random.random() * 0.1)
            engine.kill(victim)
            wait_for(lambda: engine.pids(victim), f"another {victim}")
    finally:
        stop.set()
        thread.join()
    assert not [str(result) for result in done if (result.code, result.out) != (0, "hi\n")]


def as_stored(engine: Engine, id: str) -> str:
    """The state's document in the daemon's database."""
    with contextlib.closing(sqlite3.connect(engine.data / "daemon.db")) as database:
        return str(database.execute("SELECT state FROM containers WHERE id=?", (id,)).fetchone()[0])


@pytest.mark.parametrize("network", ["bridge", "none", "host"])
def test_a_start_that_was_not_recorded_any_more_keeps_its_network(cli: Cli, engine: Engine, network: str) -> None:
    """The process runs, and SIGKILL came before the record said so: the next daemon takes it over as it is."""
    serve = "echo hello > /tmp/index.html; exec httpd -f -p 80 -h /tmp"
    flags = ("-p", "18093:80") if network == "bridge" else ()
    id = cli.out("create", "--name", "web", "--network", network, *flags, "busybox", "sh", "-c", serve)
    before = as_stored(engine, id)
    began = f"{time.time():.3f}"
    cli("start", "web")
    was = engine.inspect(id)
    engine.kill("rorquald")
    with contextlib.closing(sqlite3.connect(engine.data / "daemon.db")) as database, database:
        database.execute("UPDATE containers SET state=? WHERE id=?", (before, id))
    engine.start()
    now = engine.inspect(id)
    assert now["State"]["Running"] and now["State"]["Pid"] == was["State"]["Pid"]
    assert now["NetworkSettings"] == was["NetworkSettings"] and json.loads(as_stored(engine, id))["Networks"]
    assert cli("rename", "web", "wob").code == 0
    assert cli.out("exec", "wob", "wget", "-qO-", "127.0.0.1") == "hello"
    if network == "bridge":
        with engine.inside(), socket.create_connection(("127.0.0.1", 18093), 5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b"hello" in b"".join(iter(lambda: connection.recv(4096), b""))
    events = engine.api("GET", f"/events?since={began}&until={time.time():.3f}").body.decode().splitlines()
    starts = [event for event in map(json.loads, events) if (event["Action"], event.get("id")) == ("start", id)]
    assert len(starts) == 2, "one by either daemon: this test's first one was not cut short before it told"
    cli("stop", "-t", "0", "wob")
    assert engine.inspect(id)["State"]["Status"] == "exited"


def test_the_exit_code_after_a_start_that_was_not_recorded_any_more_is_right(cli: Cli, engine: Engine) -> None:
    id = cli.out("create", "--name", "brief", "busybox", "sh", "-c", f"{UNTIL_GO}; exit 7")
    before = as_stored(engine, id)
    cli("start", "brief")
    pid = engine.inspect(id)["State"]["Pid"]
    engine.kill("rorquald")
    with contextlib.closing(sqlite3.connect(engine.data / "daemon.db")) as database, database:
        database.execute("UPDATE containers SET state=? WHERE id=?", (before, id))
    go(pid)
    wait_for(lambda: not alive(pid), "its end")
    for _ in range(2):  # the second time it is found as it was recorded
        engine.start()
        state = engine.inspect(id)["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", 7)
        assert cli.out("wait", "brief") == "7"
        engine.kill("rorquald")
    engine.start()


def test_a_commit_that_was_cut_short_leaves_its_container_running(cli: Cli, engine: Engine) -> None:
    cli("run", "-d", "--name", "large", "busybox", "sh", "-c", "dd if=/dev/urandom of=/big bs=1M count=300; sleep 1000")
    wait_for(
        lambda: cli("exec", "large", "sh", "-c", "ps | grep -q [s]leep", code=None).code == 0,
        "the file is written",
        60,
    )
    with cli.started("commit", "large", "image"):
        wait_for(lambda: engine.inspect("large")["State"]["Paused"], "the commit has paused it")
        engine.kill("rorquald")
    engine.start()
    wait_for(lambda: engine.inspect("large")["State"]["Status"] == "running", "it is thawed")
    assert cli.out("exec", "large", "echo", "on") == "on"
    cli("commit", "large", "image")
    assert engine.inspect("large")["State"]["Status"] == "running"


def test_a_pause_stays_over_a_crash(cli: Cli, engine: Engine) -> None:
    cli("run", "-d", "--name", "frozen", "busybox", "sleep", "1000")
    cli("pause", "frozen")
    engine.kill("rorquald")
    engine.start()
    assert engine.inspect("frozen")["State"]["Status"] == "paused"
    cli("unpause", "frozen")
    assert cli.out("exec", "frozen", "echo", "on") == "on"
