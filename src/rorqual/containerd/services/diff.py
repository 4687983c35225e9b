"""containerd.services.diff.v1: a layer blob onto a snapshot's mounts, in a worker process."""

from __future__ import annotations

from collections.abc import Sequence

from rorqual.containerd.content.store import ContentStore
from rorqual.containerd.services.calls import Scope, unary
from rorqual.containerd.workers import WorkerPool
from rorqual.errdefs import InvalidArgument, NotImplementedHere
from rorqual.rpc.proto import descriptor_pb2, mount_pb2
from rorqual.rpc.proto import diff_pb2 as pb
from rorqual.rpc.proto.diff_grpc import DiffBase

_LAYER = "application/vnd.oci.image.layer.v1.tar"


class DiffService(DiffBase):
    """Apply only: a snapshot becomes a layer blob elsewhere."""

    def __init__(self, content: ContentStore, workers: WorkerPool) -> None:
        self._content = content
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
        applied = descriptor_pb2.Descriptor(media_type=_LAYER, digest=result["diff_id"], size=result["unpacked_size"])
        return pb.ApplyResponse(applied=applied)

    @unary
    async def Diff(self, scope: Scope, request: pb.DiffRequest) -> pb.DiffResponse:
        raise NotImplementedHere("diff: making a layer of two snapshots is not implemented: unimplemented")


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
