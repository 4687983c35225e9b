"""containerd.services.images.v1."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.empty_pb2 import Empty

from rorqual.containerd.events import Exchange
from rorqual.containerd.filters import labels_lookup, select
from rorqual.containerd.gc import Collector
from rorqual.containerd.identifiers import check_labels
from rorqual.containerd.metadata.database import Database
from rorqual.containerd.metadata.images import Images
from rorqual.containerd.metadata.records import Descriptor, Image
from rorqual.containerd.services.calls import Scope, timestamp, unary
from rorqual.containerd.snapshotters.stable import StableStorage
from rorqual.rpc.proto import descriptor_pb2
from rorqual.rpc.proto import image_events_pb2 as events
from rorqual.rpc.proto import images_pb2 as pb
from rorqual.rpc.proto.images_grpc import ImagesBase


class ImagesService(ImagesBase):
    """Names survive power loss: each change is durable before it is answered, and what it names before the change."""

    def __init__(
        self, db: Database, store: Images, stable: StableStorage, exchange: Exchange, collector: Collector
    ) -> None:
        self._db = db
        self._stable = stable
        self._store = store
        self._exchange = exchange
        self._collector = collector

    @unary
    async def Get(self, scope: Scope, request: pb.GetImageRequest) -> pb.GetImageResponse:
        return pb.GetImageResponse(image=to_wire(self._store.get(scope.ns, request.name)))

    @unary
    async def List(self, scope: Scope, request: pb.ListImagesRequest) -> pb.ListImagesResponse:
        found = select(request.filters, self._store.all(scope.ns), _field)
        return pb.ListImagesResponse(images=map(to_wire, found))

    @unary
    async def Create(self, scope: Scope, request: pb.CreateImageRequest) -> pb.CreateImageResponse:
        await self._stable.settle()
        image = self._store.create(scope.ns, _from_wire(request.image))
        await self._db.durable()
        self._exchange.publish(scope.ns, "/images/create", events.ImageCreate(name=image.name, labels=image.labels))
        return pb.CreateImageResponse(image=to_wire(image))

    @unary
    async def Update(self, scope: Scope, request: pb.UpdateImageRequest) -> pb.UpdateImageResponse:
        await self._stable.settle()
        image = self._store.update(scope.ns, _from_wire(request.image), list(request.update_mask.paths))
        await self._db.durable()
        self._exchange.publish(scope.ns, "/images/update", events.ImageUpdate(name=image.name, labels=image.labels))
        self._collector.schedule()
        return pb.UpdateImageResponse(image=to_wire(image))

    @unary
    async def Delete(self, scope: Scope, request: pb.DeleteImageRequest) -> Empty:
        self._store.delete(scope.ns, request.name, request.target.digest)
        await self._db.durable()
        self._exchange.publish(scope.ns, "/images/delete", events.ImageDelete(name=request.name))
        if request.sync:
            self._collector.run()
        else:
            self._collector.schedule()
        return Empty()


def to_wire(image: Image) -> pb.Image:
    """The message."""
    return pb.Image(
        name=image.name,
        labels=image.labels,
        target=descriptor_to_wire(image.target),
        created_at=timestamp(image.created_ns),
        updated_at=timestamp(image.updated_ns),
    )


def descriptor_to_wire(target: Descriptor) -> descriptor_pb2.Descriptor:
    """The message."""
    return descriptor_pb2.Descriptor(
        media_type=target.media_type, digest=target.digest, size=target.size, annotations=target.annotations
    )


def _from_wire(image: pb.Image) -> Image:
    target = image.target
    return Image(
        image.name,
        Descriptor(target.media_type, target.digest, target.size, dict(target.annotations)),
        check_labels(dict(image.labels)),
    )


def _field(image: Image, path: Sequence[str]) -> str | None:
    match path:
        case ["name"]:
            return image.name
        case ["target", "digest"]:
            return image.target.digest
        case ["target", "mediatype"]:
            return image.target.media_type
        case ["labels", *key]:
            return labels_lookup(image.labels, key)
        case ["annotations", *key]:
            return labels_lookup(image.target.annotations, key)
    return None
