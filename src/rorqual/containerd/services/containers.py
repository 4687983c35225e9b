"""containerd.services.containers.v1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.empty_pb2 import Empty

from rorqual.containerd.events import Exchange
from rorqual.containerd.filters import labels_lookup, select
from rorqual.containerd.gc import Collector
from rorqual.containerd.metadata.containers import Containers
from rorqual.containerd.services.calls import Scope, need_namespace, receive, scope_of, unary
from rorqual.rpc.proto import container_events_pb2 as events
from rorqual.rpc.proto import containers_pb2 as pb
from rorqual.rpc.proto.containers_grpc import ContainersBase


class ContainersService(ContainersBase):
    """Records; a task is another service's."""

    def __init__(self, store: Containers, exchange: Exchange, collector: Collector) -> None:
        self._store = store
        self._exchange = exchange
        self._collector = collector

    @unary
    async def Get(self, scope: Scope, request: pb.GetContainerRequest) -> pb.GetContainerResponse:
        return pb.GetContainerResponse(container=self._store.get(scope.ns, request.id))

    @unary
    async def List(self, scope: Scope, request: pb.ListContainersRequest) -> pb.ListContainersResponse:
        return pb.ListContainersResponse(containers=self._matching(scope.ns, request.filters))

    async def ListStream(self, stream: Any) -> None:
        scope = need_namespace(scope_of(stream))
        request = await receive(stream)
        for container in self._matching(scope.ns, request.filters):
            await stream.send_message(pb.ListContainerMessage(container=container))

    @unary
    async def Create(self, scope: Scope, request: pb.CreateContainerRequest) -> pb.CreateContainerResponse:
        container = self._store.create(scope.ns, request.container)
        runtime = events.ContainerCreate.Runtime(name=container.runtime.name, options=container.runtime.options)
        self._exchange.publish(
            scope.ns,
            "/containers/create",
            events.ContainerCreate(id=container.id, image=container.image, runtime=runtime),
        )
        return pb.CreateContainerResponse(container=container)

    @unary
    async def Update(self, scope: Scope, request: pb.UpdateContainerRequest) -> pb.UpdateContainerResponse:
        container = self._store.update(scope.ns, request.container, list(request.update_mask.paths))
        self._exchange.publish(
            scope.ns,
            "/containers/update",
            events.ContainerUpdate(
                id=container.id,
                image=container.image,
                labels=container.labels,
                snapshot_key=container.snapshot_key,
            ),
        )
        self._collector.schedule()
        return pb.UpdateContainerResponse(container=container)

    @unary
    async def Delete(self, scope: Scope, request: pb.DeleteContainerRequest) -> Empty:
        self._store.delete(scope.ns, request.id)
        self._exchange.publish(scope.ns, "/containers/delete", events.ContainerDelete(id=request.id))
        self._collector.schedule()
        return Empty()

    def _matching(self, ns: str, filters: Sequence[str]) -> list[pb.Container]:
        return select(filters, self._store.all(ns), _field)


def _field(container: pb.Container, path: Sequence[str]) -> str | None:
    match path:
        case ["id"]:
            return container.id
        case ["image"]:
            return container.image
        case ["runtime", "name"]:
            return container.runtime.name
        case ["labels", *key]:
            return labels_lookup(container.labels, key)
    return None
