"""containerd.services.leases.v1."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from google.protobuf.empty_pb2 import Empty

from rorqual.containerd.filters import labels_lookup, select
from rorqual.containerd.gc import Collector
from rorqual.containerd.identifiers import check_labels
from rorqual.containerd.metadata.database import Database
from rorqual.containerd.metadata.leases import Leases
from rorqual.containerd.metadata.records import Lease, Resource
from rorqual.containerd.services.calls import Scope, timestamp, unary
from rorqual.rpc.proto import leases_pb2 as pb
from rorqual.rpc.proto.leases_grpc import LeasesBase


class LeasesService(LeasesBase):
    """A lease survives power loss from its creation on. Its end need not: one that comes back is deleted again."""

    def __init__(self, db: Database, store: Leases, collector: Collector) -> None:
        self._db = db
        self._store = store
        self._collector = collector

    @unary
    async def Create(self, scope: Scope, request: pb.CreateRequest) -> pb.CreateResponse:
        lease_id = request.id or secrets.token_hex(16)
        lease = self._store.create(scope.ns, lease_id, check_labels(dict(request.labels)))
        await self._db.durable()
        return pb.CreateResponse(lease=_to_wire(lease))

    @unary
    async def Delete(self, scope: Scope, request: pb.DeleteRequest) -> Empty:
        self._store.delete(scope.ns, request.id)
        if request.sync:
            self._collector.run()
        else:
            self._collector.schedule()
        return Empty()

    @unary
    async def List(self, scope: Scope, request: pb.ListRequest) -> pb.ListResponse:
        found = select(request.filters, self._store.all(scope.ns), _field)
        return pb.ListResponse(leases=map(_to_wire, found))

    @unary
    async def AddResource(self, scope: Scope, request: pb.AddResourceRequest) -> Empty:
        self._store.hold(scope.ns, request.id, Resource(request.resource.type, request.resource.id))
        await self._db.durable()
        return Empty()

    @unary
    async def DeleteResource(self, scope: Scope, request: pb.DeleteResourceRequest) -> Empty:
        self._store.release(scope.ns, request.id, Resource(request.resource.type, request.resource.id))
        self._collector.schedule()
        return Empty()

    @unary
    async def ListResources(self, scope: Scope, request: pb.ListResourcesRequest) -> pb.ListResourcesResponse:
        held = self._store.resources(scope.ns, request.id)
        return pb.ListResourcesResponse(resources=[pb.Resource(id=r.id, type=r.type) for r in held])


def _to_wire(lease: Lease) -> pb.Lease:
    return pb.Lease(id=lease.id, created_at=timestamp(lease.created_ns), labels=lease.labels)


def _field(lease: Lease, path: Sequence[str]) -> str | None:
    match path:
        case ["id"]:
            return lease.id
        case ["labels", *key]:
            return labels_lookup(lease.labels, key)
    return None
