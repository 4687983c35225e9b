"""containerd.services.snapshots.v1."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.empty_pb2 import Empty

from rorqual.containerd.events import Exchange
from rorqual.containerd.filters import labels_lookup, select
from rorqual.containerd.gc import Collector
from rorqual.containerd.metadata.leases import Leases
from rorqual.containerd.metadata.records import Resource, Snapshot
from rorqual.containerd.services.calls import Scope, need_namespace, receive, scope_of, timestamp, unary
from rorqual.containerd.snapshotters.contract import Mount, Snapshotter
from rorqual.errdefs import InvalidArgument
from rorqual.rpc.proto import mount_pb2
from rorqual.rpc.proto import snapshot_events_pb2 as events
from rorqual.rpc.proto import snapshots_pb2 as pb
from rorqual.rpc.proto.snapshots_grpc import SnapshotsBase

_LIST_CHUNK = 100


class SnapshotsService(SnapshotsBase):
    """All snapshotters behind their names; `refused` are those that cannot be had here, with the reason."""

    def __init__(
        self,
        snapshotters: Mapping[str, Snapshotter],
        refused: Mapping[str, str],
        leases: Leases,
        exchange: Exchange,
        collector: Collector,
    ) -> None:
        self._snapshotters = snapshotters
        self._refused = refused
        self._leases = leases
        self._exchange = exchange
        self._collector = collector

    def _of(self, name: str) -> Snapshotter:
        if not name:
            raise InvalidArgument("snapshotter argument missing: invalid argument")
        snapshotter = self._snapshotters.get(name)
        if snapshotter is None:
            why = f": {self._refused[name]}" if name in self._refused else ""
            raise InvalidArgument(f"snapshotter not loaded: {name}{why}: invalid argument")
        return snapshotter

    @unary
    async def Prepare(self, scope: Scope, request: pb.PrepareSnapshotRequest) -> pb.PrepareSnapshotResponse:
        snapshotter = self._of(request.snapshotter)
        self._hold(scope, snapshotter.name, request.key)
        mounts = await snapshotter.prepare(
            scope.ns, request.key, request.parent, dict(request.labels), pinned=not scope.lease
        )
        self._publish_prepare(scope.ns, request)
        return pb.PrepareSnapshotResponse(mounts=mounts_to_wire(mounts))

    @unary
    async def View(self, scope: Scope, request: pb.ViewSnapshotRequest) -> pb.ViewSnapshotResponse:
        snapshotter = self._of(request.snapshotter)
        self._hold(scope, snapshotter.name, request.key)
        mounts = await snapshotter.view(
            scope.ns, request.key, request.parent, dict(request.labels), pinned=not scope.lease
        )
        self._publish_prepare(scope.ns, request)
        return pb.ViewSnapshotResponse(mounts=mounts_to_wire(mounts))

    @unary
    async def Mounts(self, scope: Scope, request: pb.MountsRequest) -> pb.MountsResponse:
        mounts = await self._of(request.snapshotter).mounts(scope.ns, request.key)
        return pb.MountsResponse(mounts=mounts_to_wire(mounts))

    @unary
    async def Commit(self, scope: Scope, request: pb.CommitSnapshotRequest) -> Empty:
        snapshotter = self._of(request.snapshotter)
        self._hold(scope, snapshotter.name, request.name)
        await snapshotter.commit(scope.ns, request.name, request.key, dict(request.labels), request.parent)
        event = events.SnapshotCommit(key=request.key, name=request.name, snapshotter=snapshotter.name)
        self._exchange.publish(scope.ns, "/snapshot/commit", event)
        return Empty()

    @unary
    async def Remove(self, scope: Scope, request: pb.RemoveSnapshotRequest) -> Empty:
        snapshotter = self._of(request.snapshotter)
        await snapshotter.remove(scope.ns, request.key)
        event = events.SnapshotRemove(key=request.key, snapshotter=snapshotter.name)
        self._exchange.publish(scope.ns, "/snapshot/remove", event)
        return Empty()

    @unary
    async def Stat(self, scope: Scope, request: pb.StatSnapshotRequest) -> pb.StatSnapshotResponse:
        return pb.StatSnapshotResponse(info=_info(self._of(request.snapshotter).stat(scope.ns, request.key)))

    @unary
    async def Update(self, scope: Scope, request: pb.UpdateSnapshotRequest) -> pb.UpdateSnapshotResponse:
        snapshotter = self._of(request.snapshotter)
        info = snapshotter.update(
            scope.ns, request.info.name, dict(request.info.labels), list(request.update_mask.paths)
        )
        self._collector.schedule()
        return pb.UpdateSnapshotResponse(info=_info(info))

    async def List(self, stream: Any) -> None:
        scope = need_namespace(scope_of(stream))
        request = await receive(stream)
        walked = self._of(request.snapshotter).walk(scope.ns)
        found = [_info(s) for s in select(request.filters, walked, _field)]
        for start in range(0, len(found), _LIST_CHUNK):
            await stream.send_message(pb.ListSnapshotsResponse(info=found[start : start + _LIST_CHUNK]))

    @unary
    async def Usage(self, scope: Scope, request: pb.UsageRequest) -> pb.UsageResponse:
        usage = await self._of(request.snapshotter).usage(scope.ns, request.key)
        return pb.UsageResponse(size=usage.size, inodes=usage.inodes)

    @unary
    async def Cleanup(self, scope: Scope, request: pb.CleanupRequest) -> Empty:
        await self._of(request.snapshotter).cleanup()
        return Empty()

    def _hold(self, scope: Scope, snapshotter: str, key: str) -> None:
        if scope.lease and key:
            self._leases.hold(scope.ns, scope.lease, Resource(f"snapshots/{snapshotter}", key))

    def _publish_prepare(self, ns: str, request: pb.PrepareSnapshotRequest | pb.ViewSnapshotRequest) -> None:
        event = events.SnapshotPrepare(key=request.key, parent=request.parent, snapshotter=request.snapshotter)
        self._exchange.publish(ns, "/snapshot/prepare", event)


def mounts_to_wire(mounts: Iterable[Mount]) -> list[mount_pb2.Mount]:
    """The messages."""
    return [mount_pb2.Mount(type=m.type, source=m.source, options=m.options) for m in mounts]


def _info(snapshot: Snapshot) -> pb.Info:
    return pb.Info(
        name=snapshot.name,
        parent=snapshot.parent,
        kind=snapshot.kind.value,  # type: ignore[arg-type]  # the enum has the numbers of the .proto file
        created_at=timestamp(snapshot.created_ns),
        updated_at=timestamp(snapshot.updated_ns),
        labels=snapshot.labels,
    )


def _field(snapshot: Snapshot, path: Sequence[str]) -> str | None:
    match path:
        case ["name"]:
            return snapshot.name
        case ["parent"]:
            return snapshot.parent
        case ["kind"]:
            return snapshot.kind.name.capitalize()
        case ["labels", *key]:
            return labels_lookup(snapshot.labels, key)
    return None
