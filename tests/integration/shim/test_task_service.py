"""The Task service of a real shim with the built-in runtime: lifecycle, exec, kill, pause, stats, ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest
from support.processes import wait_for

from rorqual import errdefs
from rorqual.rpc import metrics, taskapi, ttrpcclient, unixsock

from .conftest import Spawner, Task, read_until

pytestmark = pytest.mark.root


async def test_a_container_runs_and_its_exit_status_is_kept(spawner: Spawner) -> None:
    task = await spawner.task(["sh", "-c", "exit 7"])
    pid = await task.create()
    assert os.path.exists(f"/proc/{pid}")
    waiting = asyncio.ensure_future(task.wait())
    assert await task.start() == pid
    assert await waiting == 7
    assert await task.wait() == 7
    state = await task.call("State", taskapi.StateRequest(task.id), taskapi.StateResponse)
    assert (state.status, state.exit_status, state.pid) == (taskapi.STOPPED, 7, pid)
    assert json.loads((task.bundle / "exit").read_text())["status"] == 7
    deleted = await task.delete()
    assert (deleted.exit_status, deleted.pid) == (7, pid)


async def test_a_signal_ends_with_128_and_its_number(spawner: Spawner) -> None:
    task = await spawner.task(["sleep", "60"])
    await task.create()
    await task.start()
    await task.call("Kill", taskapi.KillRequest(task.id, "", signal.SIGKILL))
    assert await task.wait() == 137
    with pytest.raises(errdefs.NotFound):
        await task.call("Kill", taskapi.KillRequest(task.id, "", signal.SIGTERM))


async def test_a_missing_executable_is_told_at_create_and_nothing_is_left(spawner: Spawner) -> None:
    task = await spawner.task(["nonesuch"])
    with pytest.raises(errdefs.Error, match=r'OCI runtime create failed.*exec: "nonesuch": executable file not found'):
        await task.create()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/rorqual-test-{os.getpid()}/{task.id}"))
    assert not (spawner.state / "runc" / "test" / task.id).exists()


async def test_output_and_log_are_whole(spawner: Spawner) -> None:
    task = await spawner.task(["sh", "-c", "seq 1 20000; echo oops >&2"])
    log = task.bundle / "log.json"
    await task.create({"log": {"driver": "json-file", "path": str(log)}})
    sock, _ = await task.attach(stdout=True, stderr=True)
    await task.start()
    data = await read_until(sock, None)
    assert data == b"".join(b"%d\n" % n for n in range(1, 20001)) + b"oops\n" or data.endswith(b"20000\n")
    assert await task.wait() == 0
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert "".join(e["log"] for e in entries if e["stream"] == "stdout") == "".join(f"{n}\n" for n in range(1, 20001))
    assert [e["log"] for e in entries if e["stream"] == "stderr"] == ["oops\n"]
    sock.close()


async def test_stdin_reaches_the_container_and_half_close_ends_it(spawner: Spawner) -> None:
    task = await spawner.task(["cat"])
    await task.create({"open_stdin": True, "stdin_once": True})
    sock, _ = await task.attach(stdin=True, stdout=True, early=b"early ")
    await task.start()
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, b"and late")
    sock.shutdown(1)
    assert await read_until(sock, None) == b"early and late"
    assert await task.wait() == 0
    sock.close()


async def test_a_terminal_is_one_and_has_the_size_asked_for(spawner: Spawner) -> None:
    task = await spawner.task(["sh", "-c", "stty size; tty; read x; stty size; echo got $x"], terminal=True)
    await task.create({"open_stdin": True, "console_size": [33, 77]}, terminal=True)
    sock, _ = await task.attach(stdin=True, stdout=True, tty=True)
    await task.start()
    assert b"33 77\r\n/dev/" in await read_until(sock, b"/dev/")
    await task.call("ResizePty", taskapi.ResizePtyRequest(task.id, "", 100, 40))
    await asyncio.get_running_loop().sock_sendall(sock, b"word\n")
    out = await read_until(sock, None)
    assert b"40 100\r\n" in out and b"got word\r\n" in out
    sock.close()


async def test_detach_keys_leave_the_container_running(spawner: Spawner) -> None:
    task = await spawner.task(["cat"], terminal=True)
    await task.create({"open_stdin": True}, terminal=True)
    sock, number = await task.attach(stdin=True, stdout=True, tty=True, detach_keys="ctrl-p,ctrl-q")
    await task.start()
    await asyncio.get_running_loop().sock_sendall(sock, b"x\x10\x11")
    await read_until(sock, None)
    from rorqual.rpc.stream import StreamSocket

    with StreamSocket(task.bundle / "stream.sock") as stream:
        assert await stream.wait_attach(number) == "detached"
        assert (await stream.info())["running"]
    sock.close()


async def test_exec_runs_beside_init_with_its_own_streams(spawner: Spawner) -> None:
    task = await spawner.task(["sleep", "60"])
    await task.create()
    await task.start()
    await task.exec("e1", ["sh", "-c", "cat; echo done >&2; exit 3"])
    sock, _ = await task.attach("e1", stdin=True, stdout=True, stderr=True, mux=True)
    await task.start("e1")
    await asyncio.get_running_loop().sock_sendall(sock, b"hi")
    sock.shutdown(1)
    out = await read_until(sock, None)
    assert b"\x01\0\0\0\0\0\0\x02hi" in out and b"\x02\0\0\0\0\0\0\x05done\n" in out
    assert await task.wait("e1") == 3
    assert (await task.delete("e1")).exit_status == 3
    with pytest.raises(errdefs.NotFound):
        await task.wait("e1")
    sock.close()


async def test_exec_of_a_missing_file_fails_and_leaves_the_container(spawner: Spawner) -> None:
    task = await spawner.task(["sleep", "60"])
    await task.create()
    await task.start()
    await task.exec("e1", ["nonesuch"])
    with pytest.raises(errdefs.Error, match=r'OCI runtime exec failed.*exec: "nonesuch": executable file not found'):
        await task.start("e1")
    state = await task.call("State", taskapi.StateRequest(task.id), taskapi.StateResponse)
    assert state.status == taskapi.RUNNING


async def test_pause_stops_and_resume_goes_on(spawner: Spawner) -> None:
    task = await spawner.task(["yes"])
    await task.create()
    await task.start()
    await task.call("Pause", taskapi.PauseRequest(task.id))
    state = await task.call("State", taskapi.StateRequest(task.id), taskapi.StateResponse)
    assert state.status == taskapi.PAUSED
    await task.call("Resume", taskapi.ResumeRequest(task.id))
    state = await task.call("State", taskapi.StateRequest(task.id), taskapi.StateResponse)
    assert state.status == taskapi.RUNNING


async def test_pids_and_stats_tell_of_the_container(spawner: Spawner) -> None:
    task = await spawner.task(["sh", "-c", "sleep 60 & sleep 60; true"])
    pid = await task.create()
    await task.start()
    for _ in range(200):
        pids = await task.call("Pids", taskapi.PidsRequest(task.id), taskapi.PidsResponse)
        if len(pids.processes) >= 3:
            break
        await asyncio.sleep(0.05)
    assert pid in [p.pid for p in pids.processes] and len(pids.processes) == 3
    answer = await task.call("Stats", taskapi.StatsRequest(task.id), taskapi.StatsResponse)
    figures = metrics.Metrics.decode(answer.stats.value)
    assert figures.pids and figures.pids.current == 3
    assert figures.memory and figures.memory.usage and figures.memory.usage.usage > 0
    assert figures.cpu and figures.cpu.usage and figures.cpu.usage.total > 0


async def test_orphans_of_the_container_are_reaped(spawner: Spawner) -> None:
    task = await spawner.task(["sh", "-c", "(sleep 0.2 &) ; sleep 0.1; (true &); sleep 60"])
    await task.create()
    await task.start()
    await task.exec("e1", ["sh", "-c", "sleep 0.1 & exit 0"])
    await task.start("e1")
    assert await task.wait("e1") == 0
    await asyncio.sleep(0.5)
    connected = await task.call("Connect", taskapi.ConnectRequest(task.id), taskapi.ConnectResponse)
    children = Path(f"/proc/{connected.shim_pid}/task/{connected.shim_pid}/children")
    only = [str(connected.task_pid)]
    await asyncio.to_thread(wait_for, lambda: children.read_text().split() == only, lambda: children.read_text())


async def test_a_second_connection_sees_the_same_task_and_survives_the_first(spawner: Spawner) -> None:
    task = await spawner.task(["sleep", "60"])
    pid = await task.create()
    await task.start()
    task.client.close()
    again = Task(task.id, task.bundle, ttrpcclient.Client(unixsock.connect(task.bundle / "shim.sock")))
    task.client = again.client
    connected = await again.call("Connect", taskapi.ConnectRequest(task.id), taskapi.ConnectResponse)
    assert connected.task_pid == pid
    assert int((task.bundle / "shim.pid").read_text()) == connected.shim_pid


async def test_the_spawners_death_harms_no_shim(spawner: Spawner) -> None:
    task = await spawner.task(["sh", "-c", "read x; exit 5"])
    await task.create({"open_stdin": True, "stdin_once": True})
    sock, _ = await task.attach(stdin=True, stdout=True)
    await task.start()
    spawner.process.kill()
    spawner.process.wait()
    await asyncio.get_running_loop().sock_sendall(sock, b"go\n")
    assert await task.wait() == 5
    sock.close()


async def test_shutdown_ends_the_shim_after_delete(spawner: Spawner) -> None:
    task = await spawner.task(["true"])
    await task.create()
    await task.start()
    await task.wait()
    shim = int((task.bundle / "shim.pid").read_text())
    await task.delete()
    await task.call("Shutdown", taskapi.ShutdownRequest(task.id))
    await asyncio.wait_for(task.client.closed, 20)
    for _ in range(750):
        if not os.path.exists(f"/proc/{shim}"):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the shim is still there")
