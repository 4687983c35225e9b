"""rorqual-containerd's services as the daemon uses them: one small class a service, errors as errdefs.

Every call is in the engine's containerd namespace. What a call returns is a dataclass of ours: no protobuf message
leaves this module. Containerd's end is not the caller's: a call waits for its successor, and one that was under way is
made again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import any_pb2, field_mask_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from rorqual.errdefs import AlreadyExists, Conflict, DataLoss, Error, NotFound
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.digest import Digest
from rorqual.rpc.channel import UnixChannel, scope
from rorqual.rpc.proto import (
    containers_grpc,
    containers_pb2,
    content_grpc,
    content_pb2,
    descriptor_pb2,
    events_grpc,
    events_pb2,
    images_grpc,
    images_pb2,
    leases_grpc,
    leases_pb2,
    mount_pb2,
    snapshots_grpc,
    snapshots_pb2,
    task_events_pb2,
    task_pb2,
    tasks_grpc,
    tasks_pb2,
)
from rorqual.rpc.status import ConnectionLost, translated

SPEC_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
PROCESS_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Process"
RESOURCES_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
TASK_OPTIONS_TYPE = "rorqual.shim.v1.TaskOptions"
RUNTIME_NAME = "io.containerd.rorqual.v1"
GC_ROOT = "containerd.io/gc.root"
SIZE_LABEL = "rorqual/size"  # of a snapshot: its quota in bytes
_PATIENCE_S = 15.0  # until the supervisor has started another containerd
_DESTROY_TRIES = 100
_DESTROY_PAUSE_S = 0.02  # between SIGKILL and the next look
_LOSSES = 5  # a call that outlives so many containerds is what ends them


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount that makes a snapshot's root filesystem."""

    type: str
    source: str
    options: tuple[str, ...] = ()


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


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """A task's event: `topic` is its last part (exit, oom, paused ...)."""

    topic: str
    container_id: str
    exec_id: str = ""
    pid: int = 0
    exit: Exit | None = None


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """A name in the image store."""

    name: str
    target: Descriptor
    labels: Mapping[str, str] = field(default_factory=dict)
    created_ns: int = 0
    updated_ns: int = 0


def _ns(stamp: Timestamp) -> int:
    return stamp.seconds * 1_000_000_000 + stamp.nanos


def _mounts(mounts: Sequence[mount_pb2.Mount]) -> tuple[Mount, ...]:
    return tuple(Mount(m.type, m.source, tuple(m.options)) for m in mounts)


class _Service:
    """A stub, and the metadata of every call."""

    def __init__(self, stub: Any, metadata: Mapping[str, str]) -> None:
        self._stub = stub
        self._metadata = metadata

    async def _call(self, method: str, request: Any) -> Any:
        """A call that may be made twice. Raises: the server's errors, Unavailable."""
        for last in (*[False] * _LOSSES, True):
            try:
                return await self._call_once(method, request)
            except ConnectionLost:
                if last:
                    raise
        raise AssertionError("not reached")

    async def _make(self, method: str, request: Any, *done: type[Error]) -> Any:
        """A call that must not be made twice; None when the connection was lost and the second found it done."""
        try:
            return await self._call_once(method, request)
        except ConnectionLost:
            try:
                return await self._call(method, request)
            except done:
                return None

    async def _call_once(self, method: str, request: Any) -> Any:
        with translated():
            return await getattr(self._stub, method)(request, metadata=self._metadata)


class Containers(_Service):
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


class Tasks(_Service):
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
        return Exit(answer.exit_status, _ns(answer.exited_at))

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
        return Exit(answer.exit_status, _ns(answer.exited_at))

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
    ended = Exit(p.exit_status, _ns(p.exited_at)) if status == "stopped" else None
    return TaskState(p.container_id or p.id, p.pid, "paused" if status == "pausing" else status, ended)


class Snapshots(_Service):
    """Layers and containers' root filesystems, of one snapshotter."""

    def __init__(self, stub: Any, channel: UnixChannel, metadata: Mapping[str, str], snapshotter: str) -> None:
        super().__init__(stub, metadata)
        self._channel = channel
        self.snapshotter = snapshotter

    async def prepare(self, key: str, parent: str, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        """A new writable snapshot. Raises: AlreadyExists, NotFound (parent)."""
        request = snapshots_pb2.PrepareSnapshotRequest(
            snapshotter=self.snapshotter, key=key, parent=parent, labels=labels
        )
        prepared = await self._make("Prepare", request, AlreadyExists)
        return _mounts(prepared.mounts) if prepared is not None else await self.mounts(key)

    async def mounts(self, key: str) -> tuple[Mount, ...]:
        """Raises: NotFound."""
        request = snapshots_pb2.MountsRequest(snapshotter=self.snapshotter, key=key)
        return _mounts((await self._call("Mounts", request)).mounts)

    async def commit(self, name: str, key: str, labels: Mapping[str, str]) -> None:
        """Make the active snapshot `key` the committed `name`. Raises: AlreadyExists, NotFound."""
        request = snapshots_pb2.CommitSnapshotRequest(snapshotter=self.snapshotter, name=name, key=key, labels=labels)
        await self._make("Commit", request, AlreadyExists, NotFound)

    async def remove(self, key: str) -> None:
        """Remove; it may be gone already. Raises: Conflict while others stand on it."""
        try:
            await self._call("Remove", snapshots_pb2.RemoveSnapshotRequest(snapshotter=self.snapshotter, key=key))
        except NotFound:
            pass

    async def exists(self, key: str) -> bool:
        """Whether there is such a snapshot."""
        try:
            await self._call("Stat", snapshots_pb2.StatSnapshotRequest(snapshotter=self.snapshotter, key=key))
        except NotFound:
            return False
        return True

    async def active(self) -> list[str]:
        """The keys of the writable ones."""
        request = snapshots_pb2.ListSnapshotsRequest(snapshotter=self.snapshotter)
        answers = await self._call("List", request)
        return [info.name for answer in answers for info in answer.info if info.kind == snapshots_pb2.ACTIVE]

    async def usage(self, key: str) -> int:
        """Bytes that the snapshot itself holds, its parents' not counted. Raises: NotFound."""
        answer = await self._call("Usage", snapshots_pb2.UsageRequest(snapshotter=self.snapshotter, key=key))
        return int(answer.size)

    async def layer(self, key: str, parent: str, lease: str) -> Descriptor:
        """What the writable snapshot `key` has changed of `parent`, as a layer blob that `lease` holds."""
        from rorqual.rpc.proto import diff_grpc, diff_pb2

        view, left = f"{key}-compared", ()
        if parent:
            request = snapshots_pb2.ViewSnapshotRequest(snapshotter=self.snapshotter, key=view, parent=parent)
            await self._make("View", request, AlreadyExists)
        try:
            if parent:
                left = (
                    await self._call("Mounts", snapshots_pb2.MountsRequest(snapshotter=self.snapshotter, key=view))
                ).mounts
            right = (
                await self._call("Mounts", snapshots_pb2.MountsRequest(snapshotter=self.snapshotter, key=key))
            ).mounts
            metadata = {**self._metadata, "containerd-lease": lease}
            diffs = _Service(diff_grpc.DiffStub(self._channel), metadata)
            made = (await diffs._call("Diff", diff_pb2.DiffRequest(left=left, right=right))).diff
        finally:
            if parent:
                await asyncio.shield(self.remove(view))
        return Descriptor(made.media_type, Digest(made.digest), made.size)


class Images(_Service):
    """The image store: names of descriptors."""

    async def all(self) -> list[ImageRecord]:
        """All names."""
        return [_image(i) for i in (await self._call("List", images_pb2.ListImagesRequest())).images]

    async def get(self, name: str) -> ImageRecord:
        """Raises: NotFound."""
        return _image((await self._call("Get", images_pb2.GetImageRequest(name=name))).image)

    async def put(self, name: str, target: Descriptor, labels: Mapping[str, str]) -> None:
        """Create, or make the name mean `target`."""
        image = images_pb2.Image(
            name=name,
            labels=labels,
            target=descriptor_pb2.Descriptor(media_type=target.media_type, digest=target.digest, size=target.size),
        )
        try:
            await self._call("Create", images_pb2.CreateImageRequest(image=image))
        except AlreadyExists:
            mask = field_mask_pb2.FieldMask(paths=["target", "labels"])
            await self._call("Update", images_pb2.UpdateImageRequest(image=image, update_mask=mask))

    async def delete(self, name: str, *, sync: bool = False) -> None:
        """Remove the name; with `sync` after what it alone held is gone. It may be gone already."""
        try:
            await self._call("Delete", images_pb2.DeleteImageRequest(name=name, sync=sync))
        except NotFound:
            pass


def _image(image: images_pb2.Image) -> ImageRecord:
    target = Descriptor(image.target.media_type, Digest(image.target.digest), image.target.size)
    return ImageRecord(image.name, target, dict(image.labels), _ns(image.created_at), _ns(image.updated_at))


class Content(_Service):
    """Blobs by digest."""

    async def read(self, digest: str, limit: int) -> bytes:
        """A whole blob of at most `limit` bytes. Raises: NotFound, DataLoss when it is longer."""
        parts: list[bytes] = []
        total = 0
        async for part in self.chunks(digest):
            parts.append(part)
            total += len(part)
            if total > limit:
                raise DataLoss(f"{digest}: longer than {limit} bytes")
        return b"".join(parts)

    async def chunks(self, digest: str) -> AsyncIterator[bytes]:
        """A blob, piece by piece. Raises: NotFound."""
        with translated():
            async with self._stub.Read.open(metadata=self._metadata) as stream:
                await stream.send_message(content_pb2.ReadContentRequest(digest=digest), end=True)
                async for message in stream:
                    yield message.data

    async def size(self, digest: str) -> int | None:
        """Bytes of the blob, None when it isn't here."""
        try:
            return int((await self._call("Info", content_pb2.InfoRequest(digest=digest))).info.size)
        except NotFound:
            return None

    async def labels(self, digest: str) -> dict[str, str]:
        """Its labels. Raises: NotFound."""
        return dict((await self._call("Info", content_pb2.InfoRequest(digest=digest))).info.labels)

    async def set_labels(self, digest: str, labels: Mapping[str, str]) -> None:
        """Add or change labels."""
        info = content_pb2.Info(digest=digest, labels=labels)
        mask = field_mask_pb2.FieldMask(paths=[f"labels.{name}" for name in labels])
        await self._call("Update", content_pb2.UpdateRequest(info=info, update_mask=mask))

    async def unfinished(self) -> list[str]:
        """The refs of writes under way, or cut short."""
        answer = await self._call("ListStatuses", content_pb2.ListStatusesRequest())
        return [status.ref for status in answer.statuses]

    async def abort(self, ref: str) -> None:
        """Drop a write that has no writer; it may be gone already. Raises: Conflict while it has one."""
        try:
            await self._call("Abort", content_pb2.AbortRequest(ref=ref))
        except NotFound:
            pass

    async def write(self, ref: str, data: bytes, digest: str, labels: Mapping[str, str], lease: str = "") -> None:
        """Store a small blob in one go; one that is there already is kept, with these labels added."""
        metadata = {**self._metadata, "containerd-lease": lease} if lease else self._metadata
        request = content_pb2.WriteContentRequest(
            action=content_pb2.COMMIT,
            ref=ref,
            total=len(data),
            expected=digest,
            offset=0,
            data=data,
            labels=labels,
        )
        try:
            with translated():
                async with self._stub.Write.open(metadata=metadata) as stream:
                    await stream.send_message(request, end=True)
                    async for _ in stream:
                        pass
        except AlreadyExists:
            if labels:
                await self.set_labels(digest, labels)


class Checks:
    """The whole store, checked."""

    def __init__(self, channel: UnixChannel) -> None:
        self._channel = channel

    async def run(self) -> AsyncIterator[dict[str, Any]]:
        """{"kind", "subject", "problem", "size"} of all that was checked; kind "checked" is without a problem."""
        from google.protobuf.empty_pb2 import Empty
        from google.protobuf.wrappers_pb2 import StringValue
        from grpclib.client import UnaryStreamMethod

        method = UnaryStreamMethod(self._channel, "/rorqual.services.check.v1.Check/Run", Empty, StringValue)
        with translated():
            async with method.open() as stream:
                await stream.send_message(Empty(), end=True)
                async for message in stream:
                    yield json.loads(message.value)


class Leases(_Service):
    """Leases: what they hold is not collected."""

    async def create(self, id: str, expire: str) -> None:
        """A lease that ends by itself at `expire` (RFC 3339)."""
        labels = {"containerd.io/gc.expire": expire}
        await self._call("Create", leases_pb2.CreateRequest(id=id, labels=labels))

    async def all(self) -> list[str]:
        """The ids of all leases."""
        return [lease.id for lease in (await self._call("List", leases_pb2.ListRequest())).leases]

    async def hold(self, id: str, kind: str, resource: str) -> None:
        """Keep a resource (kind "content": a digest) while the lease lasts. Raises: NotFound for the lease."""
        held = leases_pb2.Resource(id=resource, type=kind)
        await self._call("AddResource", leases_pb2.AddResourceRequest(id=id, resource=held))

    async def delete(self, id: str, *, sync: bool = False) -> None:
        """End it; it may be gone already."""
        try:
            await self._call("Delete", leases_pb2.DeleteRequest(id=id, sync=sync))
        except NotFound:
            pass


_TASK_EVENTS: dict[str, Any] = {
    "/tasks/exit": task_events_pb2.TaskExit,
    "/tasks/oom": task_events_pb2.TaskOOM,
    "/tasks/paused": task_events_pb2.TaskPaused,
    "/tasks/resumed": task_events_pb2.TaskResumed,
    "/tasks/health": task_events_pb2.TaskOOM,  # our shim's own, of the same form
}


class TaskEvents(_Service):
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
        return TaskEvent(name, event.container_id, exec_id, event.pid, Exit(event.exit_status, _ns(event.exited_at)))
    return TaskEvent(name, event.container_id)


class Remote:
    """All services over one connection, which comes back by itself after a loss."""

    def __init__(self, address: str, namespace: str, snapshotter: str) -> None:
        self.address = address
        self.namespace = namespace
        self._channel = channel = UnixChannel(address, patience_s=_PATIENCE_S)
        # Apart: who follows the events is who has containerd started again, and must not wait for that.
        self._event_channel = UnixChannel(address)
        metadata = scope(namespace)
        self.containers = Containers(containers_grpc.ContainersStub(channel), metadata)
        self.tasks = Tasks(tasks_grpc.TasksStub(channel), metadata)
        self.snapshots = Snapshots(snapshots_grpc.SnapshotsStub(channel), channel, metadata, snapshotter)
        self.images = Images(images_grpc.ImagesStub(channel), metadata)
        self.content = Content(content_grpc.ContentStub(channel), metadata)
        self.checks = Checks(channel)
        self.leases = Leases(leases_grpc.LeasesStub(channel), metadata)
        self.events = TaskEvents(events_grpc.EventsStub(self._event_channel), metadata, namespace)

    def close(self) -> None:
        """Close the connections."""
        self._channel.close()
        self._event_channel.close()
