"""containerd.services.namespaces.v1."""

from __future__ import annotations

from typing import Any

from google.protobuf.empty_pb2 import Empty

from rorqual.containerd.events import Exchange
from rorqual.containerd.identifiers import check_labels
from rorqual.containerd.metadata.namespaces import Namespaces
from rorqual.containerd.metadata.records import masked_labels
from rorqual.containerd.services.calls import receive
from rorqual.errdefs import InvalidArgument
from rorqual.rpc.proto import namespace_events_pb2 as events
from rorqual.rpc.proto import namespaces_pb2 as pb
from rorqual.rpc.proto.namespaces_grpc import NamespacesBase


class NamespacesService(NamespacesBase):
    """Its calls need no namespace of their own."""

    def __init__(self, store: Namespaces, exchange: Exchange) -> None:
        self._store = store
        self._exchange = exchange

    async def Get(self, stream: Any) -> None:
        request = await receive(stream)
        labels = self._store.get(request.name)
        await stream.send_message(pb.GetNamespaceResponse(namespace=pb.Namespace(name=request.name, labels=labels)))

    async def List(self, stream: Any) -> None:
        await receive(stream)
        found = [pb.Namespace(name=name, labels=labels) for name, labels in self._store.all()]
        await stream.send_message(pb.ListNamespacesResponse(namespaces=found))

    async def Create(self, stream: Any) -> None:
        namespace = (await receive(stream)).namespace
        labels = check_labels(dict(namespace.labels))
        self._store.create(namespace.name, labels)
        self._exchange.publish(
            namespace.name, "/namespaces/create", events.NamespaceCreate(name=namespace.name, labels=labels)
        )
        await stream.send_message(pb.CreateNamespaceResponse(namespace=namespace))

    async def Update(self, stream: Any) -> None:
        request = await receive(stream)
        namespace = request.namespace
        paths = list(request.update_mask.paths)
        for path in paths:
            if path != "labels" and not path.startswith("labels."):
                raise InvalidArgument(f'cannot update "{path}" field on namespace "{namespace.name}"')
        labels = masked_labels(self._store.get(namespace.name), dict(namespace.labels), paths or ["labels"])
        self._store.set_labels(namespace.name, check_labels(labels))
        self._exchange.publish(
            namespace.name, "/namespaces/update", events.NamespaceUpdate(name=namespace.name, labels=labels)
        )
        await stream.send_message(
            pb.UpdateNamespaceResponse(namespace=pb.Namespace(name=namespace.name, labels=labels))
        )

    async def Delete(self, stream: Any) -> None:
        request = await receive(stream)
        self._store.delete(request.name)
        self._exchange.publish(request.name, "/namespaces/delete", events.NamespaceDelete(name=request.name))
        await stream.send_message(Empty())
