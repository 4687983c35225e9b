"""rorqual-containerd's services as the daemon uses them: one small class a service, errors as errdefs.

Every call is in the engine's containerd namespace. What a call returns is a dataclass of ours: no protobuf message
leaves this package. Containerd's end is not the caller's: a call waits for its successor, and one that was under way is
made again.
"""

from __future__ import annotations

from rorqual.daemon.remote.plugins import Plugins, Release
from rorqual.daemon.remote.service import Mount
from rorqual.daemon.remote.storage import GC_ROOT, SIZE_LABEL, Checks, Content, ImageRecord, Images, Leases, Snapshots
from rorqual.daemon.remote.tasks import Containers, Exit, TaskEvent, TaskEvents, Tasks, TaskState
from rorqual.rpc.channel import UnixChannel, scope
from rorqual.rpc.proto import (
    containers_grpc,
    content_grpc,
    events_grpc,
    images_grpc,
    introspection_grpc,
    leases_grpc,
    snapshots_grpc,
    tasks_grpc,
    version_grpc,
)

__all__ = [
    "GC_ROOT",
    "SIZE_LABEL",
    "Checks",
    "Containers",
    "Content",
    "Exit",
    "ImageRecord",
    "Images",
    "Leases",
    "Mount",
    "Remote",
    "Snapshots",
    "TaskEvent",
    "TaskEvents",
    "TaskState",
    "Tasks",
]

_PATIENCE_S = 15.0  # until the supervisor has started another containerd


class Remote:
    """All services over one connection, which comes back by itself after a loss."""

    def __init__(self, address: str, namespace: str, snapshotter: str) -> None:
        self.address = address
        self.namespace = namespace
        self._channel = channel = UnixChannel(address, patience_s=_PATIENCE_S)
        # Apart: who follows the events or asks for the release has containerd started again, and must not wait for it.
        self._event_channel = UnixChannel(address)
        metadata = scope(namespace)
        self.containers = Containers(containers_grpc.ContainersStub(channel), metadata)
        self.tasks = Tasks(tasks_grpc.TasksStub(channel), metadata)
        self.snapshots = Snapshots(snapshots_grpc.SnapshotsStub(channel), channel, metadata, snapshotter)
        self.plugins = Plugins(introspection_grpc.IntrospectionStub(channel), metadata)
        self.images = Images(images_grpc.ImagesStub(channel), metadata)
        self.content = Content(content_grpc.ContentStub(channel), metadata)
        self.checks = Checks(channel)
        self.leases = Leases(leases_grpc.LeasesStub(channel), metadata)
        self.events = TaskEvents(events_grpc.EventsStub(self._event_channel), metadata, namespace)
        self.release = Release(version_grpc.VersionStub(self._event_channel), metadata)

    def close(self) -> None:
        """Close the connections."""
        self._channel.close()
        self._event_channel.close()
