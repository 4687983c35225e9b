"""What is stored: snapshots, names of images, blobs, leases, and the check of it all."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import field_mask_pb2

from rorqual.daemon.remote.service import Mount, Service, mounts_of, mounts_to, ns
from rorqual.errdefs import AlreadyExists, DataLoss, NotFound
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.digest import Digest
from rorqual.rpc.channel import UnixChannel
from rorqual.rpc.proto import content_pb2, descriptor_pb2, images_pb2, leases_pb2, snapshots_pb2
from rorqual.rpc.status import translated

GC_ROOT = "containerd.io/gc.root"
SIZE_LABEL = "rorqual/size"  # of a snapshot: its quota in bytes


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """A name in the image store."""

    name: str
    target: Descriptor
    labels: Mapping[str, str] = field(default_factory=dict)
    created_ns: int = 0
    updated_ns: int = 0


class Snapshots(Service):
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
        return mounts_of(prepared.mounts) if prepared is not None else await self.mounts(key)

    async def mounts(self, key: str) -> tuple[Mount, ...]:
        """Raises: NotFound."""
        request = snapshots_pb2.MountsRequest(snapshotter=self.snapshotter, key=key)
        return mounts_of((await self._call("Mounts", request)).mounts)

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

    @asynccontextmanager
    async def beside_parent(self, key: str, lease: str) -> AsyncIterator[tuple[tuple[Mount, ...], tuple[Mount, ...]]]:
        """(the parent's mounts, none if it has no parent; the snapshot's own), in the block. Raises: NotFound."""
        stat = snapshots_pb2.StatSnapshotRequest(snapshotter=self.snapshotter, key=key)
        parent = (await self._call("Stat", stat)).info.parent
        if not parent:
            yield (), await self.mounts(key)
            return
        async with self.view(parent, lease) as mounts:
            yield mounts, await self.mounts(key)

    @asynccontextmanager
    async def view(self, name: str, lease: str) -> AsyncIterator[tuple[Mount, ...]]:
        """How to mount the committed snapshot `name`, to be read, in the block. Raises: NotFound."""
        key = f"{name}-view-{secrets.token_hex(8)}"
        held = Service(self._stub, {**self._metadata, "containerd-lease": lease})  # it goes even if we are killed
        request = snapshots_pb2.ViewSnapshotRequest(snapshotter=self.snapshotter, key=key, parent=name)
        await held._make("View", request, AlreadyExists)
        try:
            yield await self.mounts(key)
        finally:
            await asyncio.shield(self.remove(key))

    async def layer(self, key: str, lease: str) -> Descriptor:
        """What the writable snapshot `key` has changed of its parent, as a layer blob that `lease` holds."""
        from rorqual.rpc.proto import diff_grpc, diff_pb2

        async with self.beside_parent(key, lease) as (left, right):
            diffs = Service(diff_grpc.DiffStub(self._channel), {**self._metadata, "containerd-lease": lease})
            request = diff_pb2.DiffRequest(left=mounts_to(left), right=mounts_to(right))
            made = (await diffs._call("Diff", request)).diff
        return Descriptor(made.media_type, Digest(made.digest), made.size)


class Images(Service):
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

    async def delete(self, name: str) -> None:
        """Remove the name. It may be gone already."""
        try:
            await self._call("Delete", images_pb2.DeleteImageRequest(name=name))
        except NotFound:
            pass


def _image(image: images_pb2.Image) -> ImageRecord:
    target = Descriptor(image.target.media_type, Digest(image.target.digest), image.target.size)
    return ImageRecord(image.name, target, dict(image.labels), ns(image.created_at), ns(image.updated_at))


class Content(Service):
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


class Leases(Service):
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
        """End it; with `sync` after what it alone held is gone. It may be gone already."""
        try:
            await self._call("Delete", leases_pb2.DeleteRequest(id=id, sync=sync))
        except NotFound:
            pass


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
