"""containerd.services.tasks.v1: translates between gRPC's messages and the task manager."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError

from rorqual.containerd.filters import select
from rorqual.containerd.metadata.containers import Containers
from rorqual.containerd.runtime.manager import TaskManager
from rorqual.containerd.runtime.task import Process, Task
from rorqual.containerd.services.calls import Scope, timestamp, unary, whole
from rorqual.containerd.snapshotters.tree import TreeSnapshotter
from rorqual.errdefs import Error, InvalidArgument, NotFound, NotImplementedHere
from rorqual.rpc import taskapi
from rorqual.rpc.proto import containers_pb2, metrics_pb2, task_pb2
from rorqual.rpc.proto import tasks_pb2 as pb
from rorqual.rpc.proto.tasks_grpc import TasksBase

# all of them are the built-in shim
RUNTIMES = ("io.containerd.runc.v2", "io.containerd.rorqual.v1", "rorqual")
_TASK_OPTIONS = "rorqual.shim.v1.TaskOptions"
_RUNC_OPTIONS = "containerd.runc.v1.Options"


class TasksService(TasksBase):
    """Over the manager."""

    def __init__(
        self, manager: TaskManager, containers: Containers, snapshotters: Mapping[str, TreeSnapshotter]
    ) -> None:
        self._manager = manager
        self._snapshotters = snapshotters
        self._containers = containers

    @unary
    async def Create(self, scope: Scope, request: pb.CreateTaskRequest) -> pb.CreateTaskResponse:
        container = self._containers.get(scope.ns, request.container_id)
        if container.runtime.name not in RUNTIMES:
            raise NotFound(f'runtime "{container.runtime.name}" is not known here: not found')
        if request.HasField("checkpoint"):
            raise NotImplementedHere("restoring a checkpoint is not implemented: unimplemented")
        create = taskapi.CreateTaskRequest(
            id=request.container_id,
            rootfs=[taskapi.Mount(m.type, m.source, m.target, list(m.options)) for m in request.rootfs],
            terminal=request.terminal,
            stdin=request.stdin,
            stdout=request.stdout,
            stderr=request.stderr,
            options=_shim_options(request.options, container),
        )
        for source in [m.source for m in request.rootfs if m.type == "bind"]:
            for snapshotter in self._snapshotters.values():
                await snapshotter.ensure(source)
        pid = await self._manager.create(scope.ns, container.spec.value, create)
        return pb.CreateTaskResponse(container_id=request.container_id, pid=pid)

    @whole
    async def Start(self, scope: Scope, request: pb.StartRequest) -> pb.StartResponse:
        task, process = self._manager.process(scope.ns, request.container_id, request.exec_id)
        return pb.StartResponse(pid=await self._manager.start(task, process))

    @whole
    async def Delete(self, scope: Scope, request: pb.DeleteTaskRequest) -> pb.DeleteResponse:
        return _deleted(request.container_id, await self._manager.delete(scope.ns, request.container_id))

    @whole
    async def DeleteProcess(self, scope: Scope, request: pb.DeleteProcessRequest) -> pb.DeleteResponse:
        process = await self._manager.delete_process(scope.ns, request.container_id, request.exec_id)
        return _deleted(request.exec_id, process)

    @unary
    async def Get(self, scope: Scope, request: pb.GetRequest) -> pb.GetResponse:
        task, process = self._manager.process(scope.ns, request.container_id, request.exec_id)
        await self._manager.settle(task, process)
        return pb.GetResponse(process=_process(task, process))

    @unary
    async def List(self, scope: Scope, request: pb.ListTasksRequest) -> pb.ListTasksResponse:
        return pb.ListTasksResponse(tasks=[_process(t, t.init) for t in self._manager.all(scope.ns)])

    @whole
    async def Kill(self, scope: Scope, request: pb.KillRequest) -> Empty:
        task, _process = self._manager.process(scope.ns, request.container_id, request.exec_id)
        await self._manager.kill(task, request.exec_id, request.signal, everyone=request.all)
        return Empty()

    @whole
    async def Exec(self, scope: Scope, request: pb.ExecProcessRequest) -> Empty:
        await self._manager.exec(
            scope.ns,
            taskapi.ExecProcessRequest(
                id=request.container_id,
                exec_id=request.exec_id,
                terminal=request.terminal,
                stdin=request.stdin,
                stdout=request.stdout,
                stderr=request.stderr,
                spec=_any(request.spec),
            ),
        )
        return Empty()

    @unary
    async def ResizePty(self, scope: Scope, request: pb.ResizePtyRequest) -> Empty:
        task, process = self._manager.process(scope.ns, request.container_id, request.exec_id)
        resize = taskapi.ResizePtyRequest(task.id, process.exec_id, request.width, request.height)
        await task.connection().call("ResizePty", resize, taskapi.Empty)
        return Empty()

    @unary
    async def CloseIO(self, scope: Scope, request: pb.CloseIORequest) -> Empty:
        task, process = self._manager.process(scope.ns, request.container_id, request.exec_id)
        close = taskapi.CloseIORequest(task.id, process.exec_id, request.stdin)
        await task.connection().call("CloseIO", close, taskapi.Empty)
        return Empty()

    @whole
    async def Pause(self, scope: Scope, request: pb.PauseTaskRequest) -> Empty:
        await self._manager.pause(self._manager.get(scope.ns, request.container_id))
        return Empty()

    @whole
    async def Resume(self, scope: Scope, request: pb.ResumeTaskRequest) -> Empty:
        await self._manager.resume(self._manager.get(scope.ns, request.container_id))
        return Empty()

    @unary
    async def ListPids(self, scope: Scope, request: pb.ListPidsRequest) -> pb.ListPidsResponse:
        task = self._manager.get(scope.ns, request.container_id)
        found = await task.connection().call("Pids", taskapi.PidsRequest(task.id), taskapi.PidsResponse)
        processes = [task_pb2.ProcessInfo(pid=p.pid, info=_any_message(p.info)) for p in found.processes]
        return pb.ListPidsResponse(processes=processes)

    @unary
    async def Checkpoint(self, scope: Scope, request: pb.CheckpointTaskRequest) -> pb.CheckpointTaskResponse:
        raise NotImplementedHere("checkpoint is not implemented: unimplemented")

    @whole
    async def Update(self, scope: Scope, request: pb.UpdateTaskRequest) -> Empty:
        task = self._manager.get(scope.ns, request.container_id)
        update = taskapi.UpdateTaskRequest(task.id, _any(request.resources), dict(request.annotations))
        await task.connection().call("Update", update, taskapi.Empty)
        return Empty()

    @unary
    async def Metrics(self, scope: Scope, request: pb.MetricsRequest) -> pb.MetricsResponse:
        metrics = []
        for task in select(request.filters, self._manager.all(scope.ns), _field):
            try:
                stats = await task.connection().call("Stats", taskapi.StatsRequest(task.id), taskapi.StatsResponse)
            except Error:
                continue  # it ended meanwhile: it has no metrics
            metrics.append(
                metrics_pb2.Metric(timestamp=timestamp(time.time_ns()), id=task.id, data=_any_message(stats.stats))
            )
        return pb.MetricsResponse(metrics=metrics)

    @unary
    async def Wait(self, scope: Scope, request: pb.WaitRequest) -> pb.WaitResponse:
        _task, process = self._manager.process(scope.ns, request.container_id, request.exec_id)
        await process.exited.wait()
        return pb.WaitResponse(exit_status=process.exit_status, exited_at=timestamp(process.exited_at_ns))


def _process(task: Task, process: Process) -> task_pb2.Process:
    return task_pb2.Process(
        container_id=task.id,
        id=process.exec_id or task.id,
        pid=process.pid,
        status=process.status,  # type: ignore[arg-type]  # taskapi has the numbers of the .proto file
        stdin=process.stdin,
        stdout=process.stdout,
        stderr=process.stderr,
        terminal=process.terminal,
        exit_status=process.exit_status,
        exited_at=timestamp(process.exited_at_ns),
    )


def _field(task: Task, path: Sequence[str]) -> str | None:
    return task.id if path == ["id"] else None


def _deleted(process_id: str, process: Process) -> pb.DeleteResponse:
    return pb.DeleteResponse(
        id=process_id,
        pid=process.pid,
        exit_status=process.exit_status,
        exited_at=timestamp(process.exited_at_ns),
    )


def _any(message: AnyMessage) -> taskapi.Any_ | None:
    return taskapi.Any_(message.type_url, message.value) if message.type_url else None


def _any_message(message: taskapi.Any_ | None) -> AnyMessage | None:
    return AnyMessage(type_url=message.type_url, value=message.value) if message else None


def _shim_options(options: AnyMessage, container: containers_pb2.Container) -> taskapi.Any_ | None:
    """The shim's options: the task's, else the container's. runc's own are told in ours: only the binary matters."""
    message = options if options.value else container.runtime.options
    if message.type_url.rsplit("/", 1)[-1] != _RUNC_OPTIONS:
        return _any(message)
    from rorqual.rpc.proto import runcoptions_pb2

    try:
        binary = runcoptions_pb2.Options.FromString(message.value).binary_name
    except DecodeError as e:
        raise InvalidArgument(f"{_RUNC_OPTIONS}: {e}") from e
    if not binary:
        return None
    found = shutil.which(binary)  # containerd's own name for it has no directory
    return taskapi.Any_(_TASK_OPTIONS, json.dumps({"runtime": found or binary}).encode())
