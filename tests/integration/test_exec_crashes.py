"""SIGKILL of the daemons around an exec: it is known afterwards, its end is told once, nothing half made stays."""

import asyncio
import json
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.engine import Cli, Engine
from support.processes import wait_for

from rorqual.daemon.remote import Remote
from rorqual.errdefs import NotFound
from rorqual.rpc.stream import Attach, StreamSocket

pytestmark = pytest.mark.root

VICTIMS = {"rorquald": ("rorquald",), "containerd": ("containerd",), "both": ("rorquald", "containerd")}


@pytest.fixture(params=VICTIMS)
def victims(request: pytest.FixtureRequest, engine: Engine) -> Iterator[tuple[str, ...]]:
    yield VICTIMS[request.param]
    if not engine.pids("rorquald"):
        engine.start()


def kill_all(engine: Engine, victims: tuple[str, ...]) -> None:
    for name in victims:
        engine.kill(name)


def back(engine: Engine) -> None:
    if not engine.pids("rorquald"):
        engine.start()
    wait_for(lambda: engine.api("GET", "/containers/json").status == 200, "the daemon answers")


def running(cli: Cli, name: str) -> str:
    return cli.out("run", "-d", "--name", name, "busybox", "sleep", "100")


def created(engine: Engine, container: str, *command: str, **more: Any) -> str:
    answer = engine.api("POST", f"/containers/{container}/exec", {"Cmd": list(command), **more})
    assert answer.status == 201, answer.body
    return str(answer.json["Id"])


def inspect(engine: Engine, exec_id: str) -> Any:
    answer = engine.api("GET", f"/exec/{exec_id}/json")
    assert answer.status == 200, answer.body
    return answer.json


def ends_told(engine: Engine, exec_id: str) -> list[str]:
    """The exit codes that events tell of the exec's end."""
    answer = engine.api("GET", f"/events?since=1&until={int(time.time()) + 1}")
    events = [json.loads(line) for line in answer.body.splitlines()]
    mine = [e["Actor"]["Attributes"] for e in events if e["Action"] == "exec_die"]
    return [attributes["exitCode"] for attributes in mine if attributes["execID"] == exec_id]


def in_task(engine: Engine, container: str, exec_id: str) -> bool:
    """Whether containerd still has it."""

    async def ask() -> bool:
        remote = Remote(str(engine.exec / "containerd" / "containerd.sock"), "moby", "overlayfs")
        try:
            await remote.tasks.get(container, exec_id)
        except NotFound:
            return False
        finally:
            remote.close()
        return True

    return asyncio.run(ask())


def test_one_that_was_created_can_still_be_started(cli: Cli, engine: Engine, victims: tuple[str, ...]) -> None:
    container = running(cli, "box")
    exec_id = created(engine, container, "sh", "-c", "echo made >/made; exit 5")
    kill_all(engine, victims)
    back(engine)
    assert inspect(engine, exec_id)["ExitCode"] is None
    assert engine.api("POST", f"/exec/{exec_id}/start", {"Detach": True}).status == 200
    wait_for(lambda: inspect(engine, exec_id)["ExitCode"] == 5, "its exit code")
    assert cli.out("exec", "box", "cat", "/made") == "made"


def test_one_that_ran_is_known_until_its_end(cli: Cli, engine: Engine, victims: tuple[str, ...]) -> None:
    container = running(cli, "box")
    with cli.started("exec", "-i", "box", "sh", "-c", "echo up; read x; exit 7") as client:
        assert client.stdin is not None and client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        [exec_id] = engine.inspect(container)["ExecIDs"]
        kill_all(engine, victims)
        back(engine)
        seen = inspect(engine, exec_id)
        assert seen["Running"] and seen["Pid"] > 0
        assert engine.inspect(container)["ExecIDs"] == [exec_id]
        client.stdin.write(b"go\n")
        client.stdin.flush()
        assert client.wait(20) == 7
    wait_for(lambda: not in_task(engine, container, exec_id), "containerd forgets it")
    assert ends_told(engine, exec_id) == ["7"]


def test_one_that_ended_meanwhile_has_its_exit_code(cli: Cli, engine: Engine, victims: tuple[str, ...]) -> None:
    container = running(cli, "box")
    exec_id = created(engine, container, "sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; rm /go; exit 9")
    assert engine.api("POST", f"/exec/{exec_id}/start", {"Detach": True}).status == 200
    pid = engine.inspect(container)["State"]["Pid"]
    kill_all(engine, victims)
    with open(f"/proc/{pid}/root/go", "w"):
        pass
    wait_for(lambda: not go_is_there(pid), "it has ended")
    time.sleep(0.1)
    back(engine)
    wait_for(lambda: inspect(engine, exec_id)["ExitCode"] == 9, "its exit code")
    wait_for(lambda: not in_task(engine, container, exec_id), "containerd forgets it")
    assert ends_told(engine, exec_id) == ["9"]
    engine.restart()
    assert inspect(engine, exec_id)["ExitCode"] == 9


def go_is_there(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}/root/go")


def test_one_that_was_running_ended_with_its_container(cli: Cli, engine: Engine, victims: tuple[str, ...]) -> None:
    container = running(cli, "box")
    exec_id = created(engine, container, "sleep", "100")
    assert engine.api("POST", f"/exec/{exec_id}/start", {"Detach": True}).status == 200
    pid = engine.inspect(container)["State"]["Pid"]
    kill_all(engine, victims)
    os.kill(pid, 9)
    back(engine)
    wait_for(lambda: inspect(engine, exec_id)["ExitCode"] == 137, "its exit code")
    assert not inspect(engine, exec_id)["Running"]


@pytest.mark.parametrize("with_client", [True, False], ids=["client handed over", "client gone"])
def test_a_start_that_was_cut_short_goes_on_if_its_client_waits(cli: Cli, engine: Engine, with_client: bool) -> None:
    """The daemon was killed after the task had got the exec, and before it asked for its start."""
    container = running(cli, "box")
    command = ["/bin/sh", "-c", "echo ran | tee /ran; exit 3"]
    exec_id = created(engine, container, *command, AttachStdout=True)
    state_dir = engine.exec / "containerd"
    ours, theirs = socket.socketpair()
    ours.settimeout(20)

    async def half_a_start() -> None:
        remote = Remote(str(state_dir / "containerd.sock"), "moby", "overlayfs")
        process = json.dumps({"args": command, "cwd": "/", "user": {"uid": 0, "gid": 0}}).encode()
        await remote.tasks.exec(container, exec_id, process, terminal=False, stdin=False)
        if with_client:
            with StreamSocket(state_dir / "tasks" / "moby" / container / "stream.sock") as stream:
                await stream.attach(
                    Attach(exec_id=exec_id, stdin=False, stdout=True, stderr=False, tty=False, mux=True),
                    theirs.fileno(),
                )
        remote.close()

    asyncio.run(half_a_start())
    theirs.close()
    engine.kill("rorquald")
    back(engine)
    if with_client:
        assert ours.recv(100) == b"\x01\0\0\0\0\0\0\x04ran\n"
        assert ours.recv(100) == b""
    ours.close()
    expected = 3 if with_client else 126
    wait_for(lambda: inspect(engine, exec_id)["ExitCode"] == expected, "its exit code")
    assert not inspect(engine, exec_id)["Running"]
    wait_for(lambda: not in_task(engine, container, exec_id), "containerd forgets it")
    assert ends_told(engine, exec_id) == [str(expected)]
    assert cli("exec", "box", "ls", "/ran", code=None).code == (0 if with_client else 1)
