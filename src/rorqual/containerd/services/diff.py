"""containerd.services.diff.v1: a layer blob onto a snapshot's mounts and the way back, in a worker process."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

from rorqual.containerd.content.store import ContentStore
from rorqual.containerd.events import Exchange
from rorqual.containerd.identifiers import check_labels
from rorqual.containerd.ingest import UNCOMPRESSED_LABEL
from rorqual.containerd.metadata.leases import Leases
from rorqual.containerd.metadata.records import Pending, Resource
from rorqual.containerd.services.calls import Scope, unary
from rorqual.containerd.snapshotters.hardlinks import copy_linked
from rorqual.containerd.snapshotters.inherit import inherit_directories
from rorqual.containerd.workers import WorkerPool
from rorqual.errdefs import AlreadyExists, InvalidArgument
from rorqual.rpc.proto import content_events_pb2 as events
from rorqual.rpc.proto import descriptor_pb2, mount_pb2
from rorqual.rpc.proto import diff_pb2 as pb
from rorqual.rpc.proto.diff_grpc import DiffBase

_LAYER = "application/vnd.oci.image.layer.v1.tar"


class DiffService(DiffBase):
    """Over the content store."""

    def __init__(self, content: ContentStore, leases: Leases, workers: WorkerPool, exchange: Exchange) -> None:
        self._content = content
        self._leases = leases
        self._exchange = exchange
        self._workers = workers

    @unary
    async def Apply(self, scope: Scope, request: pb.ApplyRequest) -> pb.ApplyResponse:
        info = self._content.table.get(scope.ns, request.diff.digest)
        directory, whiteouts = target_of(request.mounts)
        job = {
            "kind": "apply",
            "path": self._content.blobs.path(info.digest),
            "directory": directory,
            "whiteouts": whiteouts,
        }
        result = await self._workers.run(job, [])
        pending, lowers = Pending.of(result), _lower_directories(request.mounts)
        if pending.directories and lowers:
            await asyncio.to_thread(inherit_directories, directory, lowers, pending.directories)
        if pending.links:
            await asyncio.to_thread(copy_linked, directory, lowers, pending.links)
        applied = descriptor_pb2.Descriptor(media_type=_LAYER, digest=result["diff_id"], size=result["unpacked_size"])
        return pb.ApplyResponse(applied=applied)

    @unary
    async def Diff(self, scope: Scope, request: pb.DiffRequest) -> pb.DiffResponse:
        labels = check_labels(dict(request.labels))
        ref = request.ref or f"diff-{secrets.token_hex(16)}"
        with self._content.locked(scope.ns, ref):
            ingest = self._content.table.begin(scope.ns, ref, "", 0)
            job = {
                "kind": "diff",
                "left": _mounts(request.left),
                "right": _mounts(request.right),
                "media_type": request.media_type,
                "path": self._content.blobs.ingest_path(ingest.id),
            }
            try:
                made = await self._workers.run(job, [])
            except BaseException:
                self._content.table.end(scope.ns, ref)
                self._content.remove_ingest_files([ingest.id])
                raise
            if scope.lease:
                self._leases.hold(scope.ns, scope.lease, Resource("content", made["digest"]))
            labels[UNCOMPRESSED_LABEL] = made["diff_id"]
            try:
                await self._content.finish(scope.ns, ref, ingest, made["digest"], made["size"], labels)
            except AlreadyExists:
                pass  # the same changes were made a layer before
            else:
                created = events.ContentCreate(digest=made["digest"], size=made["size"])
                self._exchange.publish(scope.ns, "/content/create", created)
        described = descriptor_pb2.Descriptor(media_type=made["media_type"], digest=made["digest"], size=made["size"])
        return pb.DiffResponse(diff=described)


def _mounts(mounts: Sequence[mount_pb2.Mount]) -> list[tuple[str, str, list[str]]]:
    return [(m.type, m.source, list(m.options)) for m in mounts]


def _lower_directories(mounts: Sequence[mount_pb2.Mount]) -> list[str]:
    """Of an overlay mount, the uppermost first."""
    found = [o.removeprefix("lowerdir=") for m in mounts for o in m.options if o.startswith("lowerdir=")]
    return found[0].split(":") if found else []


def target_of(mounts: Sequence[mount_pb2.Mount]) -> tuple[str, str]:
    """(directory, kind of whiteouts) to unpack into for a snapshot's mounts. Raises InvalidArgument.

    An overlay mount is not made: its upper directory takes the layer with overlayfs' own whiteouts.
    """
    if len(mounts) != 1:
        raise InvalidArgument(f"diff: exactly one mount is supported, not {len(mounts)}")
    mount = mounts[0]
    if mount.type == "bind":
        return mount.source, "plain"
    if mount.type == "overlay":
        for option in mount.options:
            if option.startswith("upperdir="):
                return option.removeprefix("upperdir="), "overlay"
    raise InvalidArgument(f"diff: a writable bind or overlay mount is needed, not {mount.type}")
