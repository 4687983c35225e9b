"""A spawner of its own and containers of busybox, driven over ttrpc as containerd does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rorqual import errdefs
from rorqual.rpc import taskapi, ttrpcclient, unixsock
from rorqual.rpc.stream import Attach, StreamSocket
from rorqual.rpc.wire import Any_, Empty

BUSYBOX = shutil.which("busybox")
NAMESPACES = ("pid", "mount", "uts", "ipc", "network")


@dataclass
class Task:
    """A task and the connection to its shim."""

    id: str
    bundle: Path
    client: ttrpcclient.Client

    async def call(self, method: str, request: Any, kind: Any = Empty, timeout_s: float = 20) -> Any:
        return await self.client.call(method, request, kind, timeout_s=timeout_s)

    async def create(self, options: dict[str, Any] | None = None, *, terminal: bool = False) -> int:
        request = taskapi.CreateTaskRequest(
            id=self.id,
            bundle=str(self.bundle),
            terminal=terminal,
            stdin="shim:",
            stdout="shim:",
            stderr="" if terminal else "shim:",
            options=Any_("rorqual.shim.v1.TaskOptions", json.dumps(options or {}).encode()),
        )
        return int((await self.call("Create", request, taskapi.CreateTaskResponse)).pid)

    async def start(self, exec_id: str = "") -> int:
        return int((await self.call("Start", taskapi.StartRequest(self.id, exec_id), taskapi.StartResponse)).pid)

    async def wait(self, exec_id: str = "") -> int:
        return int((await self.call("Wait", taskapi.WaitRequest(self.id, exec_id), taskapi.WaitResponse)).exit_status)

    async def delete(self, exec_id: str = "") -> Any:
        return await self.call("Delete", taskapi.DeleteRequest(self.id, exec_id), taskapi.DeleteResponse)

    async def exec(self, exec_id: str, args: list[str], *, terminal: bool = False) -> None:
        process = {"args": args, "cwd": "/", "env": ["PATH=/bin"], "terminal": terminal, "user": {"uid": 0, "gid": 0}}
        spec = Any_("types.containerd.io/opencontainers/runtime-spec/1/Process", json.dumps(process).encode())
        stderr = "" if terminal else "shim:"
        await self.call(
            "Exec", taskapi.ExecProcessRequest(self.id, exec_id, terminal, "shim:", "shim:", stderr, spec=spec)
        )

    async def attach(self, exec_id: str = "", **wants: Any) -> tuple[socket.socket, int]:
        """(our end of an attached connection, the attach's number)."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with StreamSocket(self.bundle / "stream.sock") as stream, theirs:
            number = await stream.attach(Attach(exec_id=exec_id, **wants), theirs.fileno())
        return ours, number


async def read_until(sock: socket.socket, what: bytes | None, timeout_s: float = 20) -> bytes:
    """Everything up to and with `what`; None: to the end."""
    data = b""
    async with asyncio.timeout(timeout_s):
        while what is None or what not in data:
            chunk = await asyncio.get_running_loop().sock_recv(sock, 65536)
            if not chunk:
                break
            data += chunk
    return data


class Spawner:
    """A running spawner and the tasks made with it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.tasks: list[Task] = []
        self.log = open(state / "log", "w+b")  # noqa: SIM115  (kept open for the process)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rorqual.shim.spawner", "--socket", state / "spawner.sock", "--containerd",
             state / "containerd.sock.ttrpc"],
            stderr=self.log,
        )  # fmt: skip

    async def connect(self) -> socket.socket:
        for _ in range(2000):
            try:
                return unixsock.connect(self.state / "spawner.sock", socket.SOCK_SEQPACKET)
            except OSError:
                await asyncio.sleep(0.01)
        raise AssertionError(f"the spawner does not listen: {Path(self.log.name).read_text()}")

    async def task(self, args: list[str], *, terminal: bool = False, **changes: Any) -> Task:
        """A shim for a bundle that runs `args` in a busybox rootfs."""
        container_id = f"t{len(self.tasks)}-{os.getpid()}"
        bundle = self.state / "tasks" / "test" / container_id
        rootfs(bundle / "rootfs")
        spec = config(container_id, args, terminal=terminal) | changes
        (bundle / "config.json").write_text(json.dumps(spec))
        ours, theirs = socket.socketpair()
        with await self.connect() as spawner, theirs:
            request = json.dumps({"ns": "test", "id": container_id, "bundle": str(bundle)}).encode()
            socket.send_fds(spawner, [request], [theirs.fileno()])
        task = Task(container_id, bundle, ttrpcclient.Client(ours))
        self.tasks.append(task)
        return task

    async def close(self) -> None:
        for task in self.tasks:
            steps = (
                lambda t=task: t.call("Kill", taskapi.KillRequest(t.id, "", 9, True)),
                task.wait,
                task.delete,
                lambda t=task: t.call("Shutdown", taskapi.ShutdownRequest(t.id, True), timeout_s=2),
            )
            for step in steps:
                with contextlib.suppress(errdefs.Error):  # whatever the test has done already
                    await step()
            task.client.close()
        self.process.terminate()
        self.process.wait(20)
        self.log.close()


def rootfs(path: Path) -> None:
    """The smallest root that runs busybox."""
    (path / "bin").mkdir(parents=True)
    for directory in ("proc", "sys", "dev", "tmp", "etc"):
        (path / directory).mkdir()
    assert BUSYBOX
    shutil.copy(BUSYBOX, path / "bin/busybox")
    for applet in ("sh", "cat", "echo", "sleep", "stty", "true", "false", "id", "yes", "head", "seq", "tty", "ls"):
        (path / "bin" / applet).symlink_to("busybox")


def config(container_id: str, args: list[str], *, terminal: bool) -> dict[str, Any]:
    """A runtime-spec config."""
    return {
        "ociVersion": "1.2.0",
        "process": {
            "args": args, "cwd": "/", "env": ["PATH=/bin", "TERM=xterm"], "terminal": terminal,
            "user": {"uid": 0, "gid": 0}, "noNewPrivileges": True,
        },
        "root": {"path": "rootfs"},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        ],
        "linux": {
            "namespaces": [{"type": t} for t in NAMESPACES],
            "cgroupsPath": f"/rorqual-test-{os.getpid()}/{container_id}",
        },
    }  # fmt: skip


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0 or BUSYBOX is None:
        pytest.skip("needs root and busybox")
    yield tmp_path
    for controller in Path("/sys/fs/cgroup").glob(f"*/rorqual-test-{os.getpid()}"):
        controller.rmdir()


@pytest.fixture
async def spawner(state: Path) -> AsyncIterator[Spawner]:
    running = Spawner(state)
    yield running
    await running.close()
