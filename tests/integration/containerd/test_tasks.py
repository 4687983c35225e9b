"""Tasks with the real shim and runtime: their life, their events, and every process killed in the middle."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.processes import alive, wait_for

from rorqual import errdefs
from rorqual.rpc.channel import scope
from rorqual.rpc.proto import containers_pb2, events_pb2, mount_pb2, task_events_pb2, task_pb2
from rorqual.rpc.proto import tasks_pb2 as pb

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("busybox"), reason="busybox is not installed"),
]

NS = "test"
SPEC_URL = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
PROCESS_URL = "types.containerd.io/opencontainers/runtime-spec/1/Process"
NAMESPACES = ("pid", "mount", "ipc", "uts")


def process_spec(*args: str) -> dict[str, Any]:
    return {"args": list(args), "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}


class Tasks:
    """Containers over one busybox rootfs."""

    def __init__(self, client: Any, containerd: Any, rootfs: Path) -> None:
        self.client = client
        self.containerd = containerd
        self._rootfs = rootfs

    def bundle(self, name: str = "c") -> Path:
        return Path(self.containerd.state) / "tasks" / NS / name

    def shim_pid(self, name: str = "c") -> int:
        return int((self.bundle(name) / "shim.pid").read_text())

    async def create(self, *args: str, name: str = "c") -> int:
        spec = {
            "ociVersion": "1.2.0",
            "process": process_spec(*args),
            "root": {"path": "rootfs"},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {
                "cgroupsPath": f"/rorqual-test-{os.getpid()}/{name}",
                "namespaces": [{"type": kind} for kind in NAMESPACES],
            },
        }
        container = containers_pb2.Container(id=name)
        container.runtime.name = "io.containerd.runc.v2"
        container.spec.type_url, container.spec.value = SPEC_URL, json.dumps(spec).encode()
        await self.client(self.client.containers.Create, containers_pb2.CreateContainerRequest(container=container))
        mount = mount_pb2.Mount(type="bind", source=str(self._rootfs), options=["rbind", "rw"])
        request = pb.CreateTaskRequest(container_id=name, rootfs=[mount])
        try:
            answer = await self.client(self.client.tasks.Create, request)
        except BaseException:
            await self.client(self.client.containers.Delete, containers_pb2.DeleteContainerRequest(id=name))
            raise
        return int(answer.pid)

    async def run(self, *args: str, name: str = "c") -> int:
        pid = await self.create(*args, name=name)
        await self.client(self.client.tasks.Start, pb.StartRequest(container_id=name))
        return pid

    async def kill(self, name: str = "c", signum: int = signal.SIGKILL) -> None:
        await self.client(self.client.tasks.Kill, pb.KillRequest(container_id=name, signal=signum, all=True))

    async def wait(self, name: str = "c", exec_id: str = "") -> int:
        request = pb.WaitRequest(container_id=name, exec_id=exec_id)
        return int((await self.client(self.client.tasks.Wait, request)).exit_status)

    async def delete(self, name: str = "c") -> int:
        answer = await self.client(self.client.tasks.Delete, pb.DeleteTaskRequest(container_id=name))
        await self.client(self.client.containers.Delete, containers_pb2.DeleteContainerRequest(id=name))
        return int(answer.exit_status)

    async def status(self, name: str = "c", exec_id: str = "") -> int:
        answer = await self.client(self.client.tasks.Get, pb.GetRequest(container_id=name, exec_id=exec_id))
        return int(answer.process.status)

    async def exec(self, exec_id: str, *args: str, name: str = "c") -> int:
        request = pb.ExecProcessRequest(container_id=name, exec_id=exec_id)
        request.spec.type_url, request.spec.value = PROCESS_URL, json.dumps(process_spec(*args)).encode()
        await self.client(self.client.tasks.Exec, request)
        answer = await self.client(self.client.tasks.Start, pb.StartRequest(container_id=name, exec_id=exec_id))
        return int(answer.pid)

    @asynccontextmanager
    async def events(self, count: int) -> AsyncIterator[list[tuple[str, Any]]]:
        """The task events of the block, as (topic, message): `count` of them are waited for, and a little for more."""
        seen: list[tuple[str, Any]] = []

        async def follow() -> None:
            async with self.client.events.Subscribe.open(metadata=scope(NS)) as stream:
                await stream.send_message(events_pb2.SubscribeRequest(filters=["topic~=^/tasks/"]), end=True)
                await stream.recv_initial_metadata()
                ready.set()
                async for envelope in stream:
                    kind = getattr(task_events_pb2, envelope.event.type_url.rpartition(".")[2])
                    seen.append((envelope.topic, kind.FromString(envelope.event.value)))

        ready = asyncio.Event()
        task = asyncio.create_task(follow())
        await ready.wait()
        yield seen
        for _ in range(1000):
            if len(seen) >= count:
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rootfs")
    for name in ("bin", "proc", "dev", "tmp", "sys"):
        (root / name).mkdir()
    shutil.copy(shutil.which("busybox") or "", root / "bin/busybox")
    for applet in ("sh", "sleep", "true", "false"):
        (root / "bin" / applet).symlink_to("busybox")
    return root


@pytest.fixture
def tasks(client: Any, containerd: Any, rootfs: Path) -> Iterator[Any]:
    yield Tasks(client, containerd, rootfs)
    for parent in Path("/sys/fs/cgroup").glob(f"*/rorqual-test-{os.getpid()}"):
        parent.rmdir()  # empty: the containers' own groups are gone


async def gone(pid: int) -> None:
    for _ in range(1000):
        if not alive(pid):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{pid} still runs")


async def there(path: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.exists():
            return
        await asyncio.sleep(0)  # the moment at which it appears matters
    raise AssertionError(f"no {path}")


def cgroups() -> list[Path]:
    return [p for p in Path("/sys/fs/cgroup").glob(f"*/rorqual-test-{os.getpid()}/*") if p.is_dir()]


async def test_a_life_and_its_events(tasks: Any) -> None:
    async with tasks.events(4) as seen:
        pid = await tasks.run("/bin/sh", "-c", "exit 7")
        assert await tasks.wait() == 7
        assert await tasks.status() == task_pb2.STOPPED
        assert await tasks.delete() == 7
    assert [topic for topic, _ in seen] == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
    assert {event.pid for _, event in seen} == {pid}
    assert seen[2][1].exit_status == seen[3][1].exit_status == 7
    assert not tasks.bundle().exists()
    assert cgroups() == []
    with pytest.raises(errdefs.NotFound):
        await tasks.status()


async def test_the_id_is_free_at_once_after_delete(tasks: Any) -> None:
    for _ in range(5):
        await tasks.run("/bin/true")
        await tasks.wait()
        await tasks.delete()


async def test_a_running_task_is_not_deleted(tasks: Any) -> None:
    await tasks.run("/bin/sleep", "60")
    with pytest.raises(errdefs.Conflict, match="must be stopped before deletion"):
        await tasks.delete()
    await tasks.kill()
    assert await tasks.wait() == 137
    with pytest.raises(errdefs.NotFound):
        await tasks.kill()
    await tasks.delete()


async def test_a_created_task_can_be_deleted(tasks: Any) -> None:
    pid = await tasks.create("/bin/sleep", "60")
    await tasks.delete()
    await gone(pid)
    assert cgroups() == []


async def test_a_failed_create_leaves_nothing(tasks: Any) -> None:
    with pytest.raises(errdefs.Error, match="no-such-program"):
        await tasks.run("/no-such-program")
    if tasks.bundle().exists():  # runtimes may find out at start
        await tasks.delete()
    assert not tasks.bundle().exists()
    assert cgroups() == []
    await tasks.run("/bin/true")
    await tasks.wait()
    await tasks.delete()


async def test_execs(tasks: Any) -> None:
    await tasks.run("/bin/sleep", "60")
    async with tasks.events(4) as seen:
        await tasks.exec("e1", "/bin/sh", "-c", "exit 5")
        assert await tasks.wait(exec_id="e1") == 5
        with pytest.raises(errdefs.AlreadyExists):
            await tasks.exec("e1", "/bin/true")
        request = pb.DeleteProcessRequest(container_id="c", exec_id="e1")
        assert (await tasks.client(tasks.client.tasks.DeleteProcess, request)).exit_status == 5
    topics = [topic for topic, _ in seen]
    assert topics == ["/tasks/exec-added", "/tasks/exec-started", "/tasks/exit", "/tasks/delete"]
    assert (seen[2][1].container_id, seen[2][1].id) == ("c", "e1")
    with pytest.raises(errdefs.InvalidArgument):
        await tasks.exec("../e2", "/bin/true")
    with pytest.raises(errdefs.NotFound):
        await tasks.wait(exec_id="e1")
    await tasks.kill()
    await tasks.wait()
    await tasks.delete()


async def test_pause_and_resume(tasks: Any) -> None:
    await tasks.run("/bin/sleep", "60")
    await tasks.client(tasks.client.tasks.Pause, pb.PauseTaskRequest(container_id="c"))
    assert await tasks.status() == task_pb2.PAUSED
    await tasks.client(tasks.client.tasks.Resume, pb.ResumeTaskRequest(container_id="c"))
    assert await tasks.status() == task_pb2.RUNNING
    pids = await tasks.client(tasks.client.tasks.ListPids, pb.ListPidsRequest(container_id="c"))
    described = {p.pid: Path(f"/proc/{p.pid}/status").read_text() for p in pids.processes}
    assert len(pids.processes) == 1, described
    (metric,) = (await tasks.client(tasks.client.tasks.Metrics, pb.MetricsRequest(filters=["id==c"]))).metrics
    assert metric.data.type_url == "io.containerd.cgroups.v1.Metrics"
    await tasks.kill()
    await tasks.wait()
    await tasks.delete()


async def test_sigkill_of_containerd_disturbs_nothing(tasks: Any, containerd: Any, rootfs: Path) -> None:
    pid = await tasks.run("/bin/sleep", "60")
    await tasks.exec("e1", "/bin/sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 3")
    await containerd.kill()
    assert alive(pid)
    await containerd.start()
    assert await tasks.status() == task_pb2.RUNNING
    assert await tasks.status(exec_id="e1") == task_pb2.RUNNING
    go = rootfs / "tmp" / "go"
    go.touch()
    try:
        assert await tasks.wait(exec_id="e1") == 3
    finally:
        go.unlink()  # the root file system is the session's
    await tasks.exec("e2", "/bin/true")
    assert await tasks.wait(exec_id="e2") == 0
    await tasks.kill(signum=signal.SIGKILL)
    assert await tasks.wait() == 137
    assert await tasks.delete() == 137


async def test_an_end_while_containerd_is_away_is_told_after_its_start(tasks: Any, containerd: Any) -> None:
    pid = await tasks.run("/bin/sh", "-c", "sleep 0.5; exit 9")
    await containerd.kill()
    await gone(pid)
    await containerd.start()
    assert await tasks.wait() == 9
    assert await tasks.delete() == 9


async def test_sigkill_of_the_shim_is_an_end_with_137_and_leaves_nothing(tasks: Any) -> None:
    pid = await tasks.run("/bin/sleep", "60")
    async with tasks.events(1) as seen:
        os.kill(tasks.shim_pid(), signal.SIGKILL)
        assert await tasks.wait() == 137
    assert [topic for topic, _ in seen] == ["/tasks/exit"]
    await gone(pid)
    assert cgroups() == []
    assert await tasks.delete() == 137
    assert not tasks.bundle().exists()
    assert not (Path(tasks.containerd.state) / "runc" / NS / "c").exists()


async def test_sigkill_of_the_shim_while_containerd_is_away(tasks: Any, containerd: Any) -> None:
    pid = await tasks.run("/bin/sleep", "60")
    await containerd.kill()
    os.kill(tasks.shim_pid(), signal.SIGKILL)
    await containerd.start()
    assert await tasks.wait() == 137
    await gone(pid)
    assert await tasks.delete() == 137
    assert cgroups() == []


async def test_a_dead_shim_that_nobody_reaps_holds_up_nothing(tasks: Any, containerd: Any) -> None:
    """As on a machine whose init does not: the pid is there for ever."""
    pid = await tasks.run("/bin/sleep", "60")
    await containerd.kill()
    os.kill(tasks.shim_pid(), signal.SIGKILL)
    with subprocess.Popen(["true"]) as zombie:  # noqa: ASYNC220 - it is started to be not waited for
        await asyncio.to_thread(wait_for, lambda: not alive(zombie.pid), "it has ended")
        (tasks.bundle() / "shim.pid").write_text(str(zombie.pid))
        began = time.monotonic()
        await containerd.start()
        assert time.monotonic() - began < 4.5  # a live shim that does not listen is given longer
        assert await tasks.wait() == 137
        assert await tasks.delete() == 137
    await gone(pid)


async def test_sigkill_of_the_shim_after_the_end_keeps_the_exit_status(tasks: Any, containerd: Any) -> None:
    pid = await tasks.run("/bin/sh", "-c", "sleep 0.5; exit 9")
    await containerd.kill()
    await gone(pid)
    await there(tasks.bundle() / "exit")
    os.kill(tasks.shim_pid(), signal.SIGKILL)
    await containerd.start()
    assert await tasks.wait() == 9
    assert await tasks.delete() == 9


async def test_sigkill_of_the_spawner_is_repaired(tasks: Any, containerd: Any) -> None:
    await tasks.run("/bin/sleep", "60")
    children = Path(f"/proc/{containerd.pid}/task/{containerd.pid}/children").read_text().split()
    (spawner,) = (p for p in children if "spawner" in Path(f"/proc/{p}/cmdline").read_text())
    os.kill(int(spawner), signal.SIGKILL)
    await tasks.run("/bin/true", name="after")
    assert await tasks.wait("after") == 0
    await tasks.delete("after")
    assert await tasks.status() == task_pb2.RUNNING
    await tasks.kill()
    await tasks.wait()
    await tasks.delete()


async def test_a_caller_that_goes_away_leaves_no_task(tasks: Any) -> None:
    creation = asyncio.create_task(tasks.create("/bin/sleep", "60"))
    await there(tasks.bundle())
    creation.cancel()
    await asyncio.gather(creation, return_exceptions=True)
    for _ in range(1000):
        if not tasks.bundle().exists():
            break
        await asyncio.sleep(0.02)
    assert not tasks.bundle().exists()
    assert cgroups() == []


async def test_many_at_once(tasks: Any) -> None:
    async def one(name: str) -> int:
        await tasks.run("/bin/true", name=name)
        status: int = await tasks.wait(name)
        await tasks.delete(name)
        return status

    assert await asyncio.gather(*(one(f"c{i}") for i in range(20))) == [0] * 20
    assert cgroups() == []
    assert list(tasks.bundle().parent.iterdir()) == []
