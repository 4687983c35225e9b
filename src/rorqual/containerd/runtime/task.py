"""A task and its processes as containerd knows them; the shim is asked only to act.

    process:  CREATED -> RUNNING <-> PAUSED -> STOPPED        (init "" and each exec)

A process's end arrives as the answer of a Wait call that is held at the shim from its start on.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from rorqual.containerd.runtime.bundle import Bundle
from rorqual.errdefs import NotFound, Unavailable
from rorqual.rpc import taskapi, ttrpcclient


@dataclass(slots=True, eq=False)
class Process:
    """`lock` is held while it starts, so that its exit is not told before its start."""

    exec_id: str
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False
    pid: int = 0
    status: int = taskapi.CREATED
    exit_status: int = 0
    exited_at_ns: int = 0
    exited: asyncio.Event = field(default_factory=asyncio.Event)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    watcher: asyncio.Task[None] | None = None


@dataclass(slots=True, eq=False)
class Task:
    """`lock` orders create, delete and exec of one container; `shim` is None once it is known to be dead."""

    ns: str
    id: str
    bundle: Bundle
    shim: ttrpcclient.Client | None = None
    processes: dict[str, Process] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    deleting: bool = False

    @property
    def init(self) -> Process:
        """The container's first process. Raises NotFound while the task is being created."""
        init = self.processes.get("")
        if init is None:
            raise NotFound(f"task {self.id} not found: not found")
        return init

    def connection(self) -> ttrpcclient.Client:
        """To the shim. Raises Unavailable when it is dead."""
        if self.shim is None:
            raise Unavailable(f"task {self.id}: the shim is gone")
        return self.shim
