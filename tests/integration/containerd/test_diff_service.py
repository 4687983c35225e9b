"""The diff service: what a snapshot changed becomes a layer, and the layer the same files again."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from integration.containerd.conftest import Client

from rorqual import errdefs
from rorqual.rpc.proto import content_pb2, descriptor_pb2, mount_pb2, snapshots_pb2
from rorqual.rpc.proto import diff_pb2 as pb

pytestmark = pytest.mark.root

OLD_NS = 1_500_000_000_000_000_000


@contextmanager
def mounted(mounts: list[mount_pb2.Mount], point: Path) -> Iterator[Path]:
    (mount,) = mounts
    point.mkdir(exist_ok=True)
    options = ",".join(mount.options)
    subprocess.run(["mount", "-t", mount.type, "-o", options, mount.source, str(point)], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", str(point)], check=True)


def fill(root: Path) -> None:
    """The parent."""
    for name, text in {
        "same": "1",
        "changed": "2",
        "gone": "3",
        "d/gone-too": "4",
        "d/same": "5",
        "typed": "6",
    }.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
        os.utime(root / name, ns=(OLD_NS, OLD_NS))
    (root / "replaced").mkdir()
    (root / "replaced" / "below").write_text("7")


def change(root: Path) -> None:
    """The child's own."""
    (root / "changed").write_text("X")  # as long as before,
    os.utime(root / "changed", ns=(OLD_NS, OLD_NS))  # and as old
    (root / "gone").unlink()
    (root / "d" / "gone-too").unlink()
    (root / "typed").unlink()
    (root / "typed").mkdir()
    (root / "typed" / "now").write_text("dir")
    subprocess.run(["rm", "-r", root / "replaced"], check=True)
    (root / "replaced").write_text("file")
    (root / "new" / "deep").mkdir(parents=True)
    (root / "new" / "deep" / "file").write_text("8")
    os.chmod(root / "new" / "deep" / "file", 0o4755)
    os.mkfifo(root / "fifo")
    os.symlink("/somewhere", root / "link")
    os.chmod(root / "d", 0o700)


def described(root: Path) -> dict[str, tuple[object, ...]]:
    found = {}
    for path in root.rglob("*"):
        info = path.lstat()
        content = path.read_text() if stat.S_ISREG(info.st_mode) else ""
        found[str(path.relative_to(root))] = (info.st_mode, info.st_uid, content)
    return found


async def make(client: Client, snapshotter: str, tmp_path: Path) -> dict[str, tuple[object, ...]]:
    """base, and on it the active `child`; the child's files."""
    prepare = snapshots_pb2.PrepareSnapshotRequest(snapshotter=snapshotter, key="b")
    made = await client(client.snapshots.Prepare, prepare)
    with mounted(list(made.mounts), tmp_path / "b") as root:
        fill(root)
    commit = snapshots_pb2.CommitSnapshotRequest(snapshotter=snapshotter, key="b", name="base")
    await client(client.snapshots.Commit, commit)
    prepare = snapshots_pb2.PrepareSnapshotRequest(snapshotter=snapshotter, key="child", parent="base")
    made = await client(client.snapshots.Prepare, prepare)
    with mounted(list(made.mounts), tmp_path / "c") as root:
        change(root)
        return described(root)


async def layer(client: Client, snapshotter: str, media_type: str = "") -> descriptor_pb2.Descriptor:
    view = snapshots_pb2.ViewSnapshotRequest(snapshotter=snapshotter, key="left", parent="base")
    left = await client(client.snapshots.View, view)
    right = await client(client.snapshots.Mounts, snapshots_pb2.MountsRequest(snapshotter=snapshotter, key="child"))
    request = pb.DiffRequest(left=left.mounts, right=right.mounts, media_type=media_type, ref="r", labels={"k": "v"})
    return (await client(client.diff.Diff, request)).diff


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
@pytest.mark.parametrize("kind", ["", "+zstd", "+gzip"])
async def test_a_layer_of_the_changes_gives_the_same_files(
    client: Client, tmp_path: Path, snapshotter: str, kind: str
) -> None:
    wanted = await make(client, snapshotter, tmp_path)
    described_layer = await layer(client, snapshotter, "application/vnd.oci.image.layer.v1.tar" + kind)
    prepare = snapshots_pb2.PrepareSnapshotRequest(snapshotter=snapshotter, key="again", parent="base")
    again = await client(client.snapshots.Prepare, prepare)
    applied = await client(client.diff.Apply, pb.ApplyRequest(diff=described_layer, mounts=again.mounts))
    info = (await client(client.content.Info, content_pb2.InfoRequest(digest=described_layer.digest))).info
    assert info.labels == {"k": "v", "containerd.io/uncompressed": applied.applied.digest}
    assert info.size == described_layer.size
    with mounted(list(again.mounts), tmp_path / "again") as root:
        assert described(root) == wanted


async def test_both_snapshotters_make_the_same_changes_of_it(client: Client, tmp_path: Path) -> None:
    names = []
    for snapshotter in ("overlayfs", "native"):
        await make(client, snapshotter, tmp_path)
        made = await layer(client, snapshotter, "application/vnd.oci.image.layer.v1.tar")
        data = b""
        async for part in _read(client, made.digest):
            data += part
        names.append(listing(data))
    assert names[0] == names[1]
    assert {".wh.gone", "d/.wh.gone-too", "changed", "new/deep/file", "typed/now"} <= names[1]
    assert not {"same", "d/same"} & names[1]


def listing(tar: bytes) -> set[str]:
    """Names in it; that a new directory hides what the parent has of that name is said by one of the two only."""
    out = subprocess.run(["tar", "-t"], input=tar, capture_output=True, check=True).stdout.decode().split()
    return {name.rstrip("/") for name in out if not name.endswith(".wh..wh..opq")}


async def _read(client: Client, digest: str):  # type: ignore[no-untyped-def]
    for answer in await client(client.content.Read, content_pb2.ReadContentRequest(digest=digest)):
        yield answer.data


async def test_a_snapshot_without_parent_is_a_layer_of_all_its_files(client: Client, tmp_path: Path) -> None:
    made = await client(client.snapshots.Prepare, snapshots_pb2.PrepareSnapshotRequest(snapshotter="native", key="b"))
    with mounted(list(made.mounts), tmp_path / "b") as root:
        fill(root)
        wanted = described(root)
    diff = (await client(client.diff.Diff, pb.DiffRequest(right=made.mounts))).diff
    assert diff.media_type == "application/vnd.oci.image.layer.v1.tar+gzip"
    again = await client(client.snapshots.Prepare, snapshots_pb2.PrepareSnapshotRequest(snapshotter="native", key="a"))
    await client(client.diff.Apply, pb.ApplyRequest(diff=diff, mounts=again.mounts))
    with mounted(list(again.mounts), tmp_path / "a") as root:
        assert described(root) == wanted


async def test_what_cannot_be_made_leaves_no_ingest(client: Client, tmp_path: Path) -> None:
    made = await client(client.snapshots.Prepare, snapshots_pb2.PrepareSnapshotRequest(snapshotter="native", key="b"))
    with pytest.raises(errdefs.InvalidArgument, match="media type"):
        await client(client.diff.Diff, pb.DiffRequest(right=made.mounts, media_type="text/plain"))
    statuses = await client(client.content.ListStatuses, content_pb2.ListStatusesRequest())
    assert not statuses.statuses
