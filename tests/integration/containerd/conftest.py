"""A rorqual-containerd process of the test's own, and calls to it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from grpclib.client import Channel
from support.processes import kill

from rorqual.containerd.runtime.bundle import Bundle
from rorqual.containerd.runtime.leftovers import clean_up
from rorqual.rpc.channel import UnixChannel, scope
from rorqual.rpc.proto.containers_grpc import ContainersStub
from rorqual.rpc.proto.content_grpc import ContentStub
from rorqual.rpc.proto.diff_grpc import DiffStub
from rorqual.rpc.proto.events_grpc import EventsStub
from rorqual.rpc.proto.images_grpc import ImagesStub
from rorqual.rpc.proto.leases_grpc import LeasesStub
from rorqual.rpc.proto.namespaces_grpc import NamespacesStub
from rorqual.rpc.proto.snapshots_grpc import SnapshotsStub
from rorqual.rpc.proto.tasks_grpc import TasksStub
from rorqual.rpc.status import translated

NS = "test"


class Containerd:
    """The process. `start` and `kill` as often as a test wants."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.state = directory / "state"
        self.address = str(self.state / "containerd.sock")
        self.ingest = str(self.state / "ingest.sock")
        self._log = directory / "containerd.log"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it; the test's loop goes on meanwhile, and sees the connections that a kill has ended."""
        await asyncio.to_thread(self.start_now)

    async def kill(self, signum: int = signal.SIGKILL) -> None:
        """End it."""
        await asyncio.to_thread(self.kill_now, signum)

    def start_now(self) -> None:
        argv = [sys.executable, "-m", "rorqual.containerd.main", "--root", str(self.root), "--state", str(self.state)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while f"pid {self._process.pid} serving" not in self.log():
            assert self._process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def kill_now(self, signum: int = signal.SIGKILL) -> None:
        assert self._process is not None
        self._process.send_signal(signum)
        self._process.wait(20)

    def close(self) -> None:
        """Stop it, and every shim that a failed test left."""
        if self._process is not None and self._process.poll() is None:
            self.kill_now(signal.SIGTERM)
        for file in self.state.glob("tasks/*/*/shim.pid"):
            kill([int(file.read_text())])
            bundle = Bundle(file.parent.parent.name, file.parent.name, str(file.parent))
            clean_up(bundle, f"{self.state}/runc/{bundle.ns}/{bundle.id}")  # an init may outlive its shim


class Client:
    """Stubs in one namespace; errors as errdefs."""

    def __init__(self, channel: Channel) -> None:
        self.namespaces = NamespacesStub(channel)
        self.content = ContentStub(channel)
        self.snapshots = SnapshotsStub(channel)
        self.images = ImagesStub(channel)
        self.leases = LeasesStub(channel)
        self.containers = ContainersStub(channel)
        self.diff = DiffStub(channel)
        self.tasks = TasksStub(channel)
        self.events = EventsStub(channel)

    async def __call__(self, method: Callable[..., Any], request: Any, *, lease: str = "", ns: str = NS) -> Any:
        with translated():
            return await method(request, metadata=scope(ns, lease), timeout=30)


@pytest.fixture
def containerd(tmp_path: Path) -> Iterator[Containerd]:
    made = Containerd(tmp_path)
    made.start_now()
    yield made
    made.close()


@pytest.fixture
async def client(containerd: Containerd) -> AsyncIterator[Client]:
    channel = UnixChannel(containerd.address)
    yield Client(channel)
    channel.close()
    await asyncio.sleep(0)
