"""Container records, tasks and their events."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import any_pb2

from rorqual.daemon.remote.service import Mount, Service, ns
from rorqual.errdefs import AlreadyExists, Conflict, NotFound
from rorqual.rpc.proto import containers_pb2, events_pb2, mount_pb2, task_events_pb2, task_pb2, tasks_pb2
from rorqual.rpc.status import translated

SPEC_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
PROCESS_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Process"
RESOURCES_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
TASK_OPTIONS_TYPE = "rorqual.shim.v1.TaskOptions"
RUNTIME_NAME = "io.containerd.rorqual.v1"
_DESTROY_TRIES = 100
_DESTROY_PAUSE_S = 0.02  # between SIGKILL and the next look


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: 0-255, and when (ns since the epoch)."""

    status: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class TaskState:
    """A process as containerd sees it; `exit` when stopped."""

    container_id: str
    pid: int
    status: str  # created, running, paused, stopped, unknown
    exit: Exit | None

    @property
    def alive(self) -> bool:
        """Its process runs or is frozen."""
        return self.status in ("running", "paused")


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """A task's event: `topic` is its last part (exit, oom, paused ...)."""

    topic: str
    container_id: str
    exec_id: str = ""
    pid: int = 0
    exit: Exit | None = None


class Containers(Service):
    """Container records."""

    async def create(self, id: str, *, image: str, spec: bytes, snapshotter: str, key: str) -> None:
        """Add a record with its runtime-spec (JSON). Raises: AlreadyExists."""
        container = containers_pb2.Container(
            id=id,
            image=image,
            runtime=containers_pb2.Container.Runtime(name=RUNTIME_NAME),
            spec=any_pb2.Any(type_url=SPEC_TYPE, value=spec),
            snapshotter=snapshotter,
            snapshot_key=key,
        )
        await self._make("Create", containers_pb2.CreateContainerRequest(container=container), AlreadyExists)

    async def delete(self, id: str) -> None:
        """Remove the record; it may be gone already."""
        try:
            await self._call("Delete", containers_pb2.DeleteContainerRequest(id=id))
        except NotFound:
            pass


class Tasks(Service):
    """Running containers and their execs."""

    async def create(self, id: str, mounts: Sequence[Mount], *, terminal: bool, options: bytes) -> int:
        """Make the task, its streams with the shim; its pid. Raises: what the runtime says."""
        request = tasks_pb2.CreateTaskRequest(
            container_id=id,
            rootfs=[mount_pb2.Mount(type=m.type, source=m.source, options=m.options) for m in mounts],
            stdin="shim:",
            stdout="shim:",
            stderr="" if terminal else "shim:",
            terminal=terminal,
            options=any_pb2.Any(type_url=TASK_OPTIONS_TYPE, value=options),
        )
        created = await self._make("Create", request, AlreadyExists)
        return int(created.pid) if created is not None else (await self.get(id)).pid

    async def start(self, id: str, exec_id: str = "") -> int:
        """Run it; the pid. Raises: what the runtime says."""
        started = await self._make("Start", tasks_pb2.StartRequest(container_id=id, exec_id=exec_id), Conflict)
        return int(started.pid) if started is not None else (await self.get(id, exec_id)).pid

    async def delete(self, id: str) -> Exit:
        """Remove a stopped task. Raises: NotFound, Conflict while it runs."""
        answer = await self._call("Delete", tasks_pb2.DeleteTaskRequest(container_id=id))
        return Exit(answer.exit_status, ns(answer.exited_at))

    async def destroy(self, id: str) -> None:
        """End and remove a task whatever it does; it may be gone already. Raises: Conflict when it cannot be ended."""
        for _ in range(_DESTROY_TRIES):
            try:
                await self.delete(id)
                return
            except NotFound:
                return
            except Conflict as e:
                refusal = e
            with contextlib.suppress(NotFound):
                await self.kill(id, signal.SIGKILL, everything=True)
            await asyncio.sleep(_DESTROY_PAUSE_S)
        raise refusal

    async def delete_exec(self, id: str, exec_id: str) -> Exit:
        """Remove a stopped exec. Raises: NotFound."""
        answer = await self._call("DeleteProcess", tasks_pb2.DeleteProcessRequest(container_id=id, exec_id=exec_id))
        return Exit(answer.exit_status, ns(answer.exited_at))

    async def get(self, id: str, exec_id: str = "") -> TaskState:
        """Raises: NotFound."""
        answer = await self._call("Get", tasks_pb2.GetRequest(container_id=id, exec_id=exec_id))
        return _task_state(answer.process)

    async def states(self) -> list[TaskState]:
        """Every task of the namespace."""
        answer = await self._call("List", tasks_pb2.ListTasksRequest())
        return [_task_state(p) for p in answer.tasks]

    async def kill(self, id: str, signum: int, exec_id: str = "", *, everything: bool = False) -> None:
        """Send a signal. Raises: NotFound when there is no such process any more."""
        request = tasks_pb2.KillRequest(container_id=id, exec_id=exec_id, signal=signum, all=everything)
        await self._make("Kill", request, NotFound)

    async def exec(self, id: str, exec_id: str, process: bytes, *, terminal: bool, stdin: bool) -> None:
        """Add an exec (process: runtime-spec JSON), not yet started."""
        request = tasks_pb2.ExecProcessRequest(
            container_id=id,
            exec_id=exec_id,
            stdin="shim:" if stdin else "",
            stdout="shim:",
            stderr="" if terminal else "shim:",
            terminal=terminal,
            spec=any_pb2.Any(type_url=PROCESS_TYPE, value=process),
        )
        await self._make("Exec", request, AlreadyExists)

    async def resize(self, id: str, height: int, width: int, exec_id: str = "") -> None:
        """Set the terminal's size."""
        request = tasks_pb2.ResizePtyRequest(container_id=id, exec_id=exec_id, width=width, height=height)
        await self._call("ResizePty", request)

    async def pause(self, id: str) -> None:
        """Freeze."""
        await self._call("Pause", tasks_pb2.PauseTaskRequest(container_id=id))

    async def resume(self, id: str) -> None:
        """Thaw."""
        await self._call("Resume", tasks_pb2.ResumeTaskRequest(container_id=id))

    async def pids(self, id: str) -> list[int]:
        """Its processes, as the host numbers them."""
        answer = await self._call("ListPids", tasks_pb2.ListPidsRequest(container_id=id))
        return [p.pid for p in answer.processes]

    async def update(self, id: str, resources: bytes) -> None:
        """Change its limits (runtime-spec LinuxResources, JSON)."""
        value = any_pb2.Any(type_url=RESOURCES_TYPE, value=resources)
        await self._call("Update", tasks_pb2.UpdateTaskRequest(container_id=id, resources=value))

    async def metrics(self, id: str) -> bytes:
        """Its figures: io.containerd.cgroups.v1.Metrics, encoded (see rpc.metrics). Raises: NotFound."""
        answer = await self._call("Metrics", tasks_pb2.MetricsRequest(filters=[f"id=={id}"]))
        for metric in answer.metrics:
            if metric.id == id:
                return bytes(metric.data.value)
        raise NotFound(f"no metrics of task {id}")


def _task_state(p: task_pb2.Process) -> TaskState:
    status = task_pb2.Status.Name(p.status).lower()
    ended = Exit(p.exit_status, ns(p.exited_at)) if status == "stopped" else None
    return TaskState(p.container_id or p.id, p.pid, "paused" if status == "pausing" else status, ended)


_TASK_EVENTS: dict[str, Any] = {
    "/tasks/exit": task_events_pb2.TaskExit,
    "/tasks/oom": task_events_pb2.TaskOOM,
    "/tasks/paused": task_events_pb2.TaskPaused,
    "/tasks/resumed": task_events_pb2.TaskResumed,
    "/tasks/health": task_events_pb2.TaskOOM,  # our shim's own, of the same form
}


class TaskEvents(Service):
    """The event stream, reduced to what tasks do."""

    def __init__(self, stub: Any, metadata: Mapping[str, str], namespace: str) -> None:
        super().__init__(stub, metadata)
        self._namespace = namespace

    async def subscribe(self, subscribed: Any) -> AsyncIterator[TaskEvent]:
        """Events from now on; `subscribed()` is called once none can be missed any more. Raises: Unavailable."""
        filters = [f'topic=="{topic}"' for topic in _TASK_EVENTS]
        with translated():
            async with self._stub.Subscribe.open(metadata=self._metadata) as stream:
                await stream.send_message(events_pb2.SubscribeRequest(filters=filters), end=True)
                subscribed()
                async for envelope in stream:
                    if envelope.namespace != self._namespace:
                        continue
                    kind = _TASK_EVENTS.get(envelope.topic)
                    if kind is not None:
                        yield _task_event(envelope.topic, kind.FromString(envelope.event.value))


def _task_event(topic: str, event: Any) -> TaskEvent:
    name = topic.rpartition("/")[2]
    if name == "exit":
        # containerd's rule: an event whose id is the container's is of the init process.
        exec_id = "" if event.id == event.container_id else event.id
        return TaskEvent(name, event.container_id, exec_id, event.pid, Exit(event.exit_status, ns(event.exited_at)))
    return TaskEvent(name, event.container_id)
