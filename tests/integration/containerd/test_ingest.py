"""The ingest socket: one pass from bytes to a blob and an unpacked layer; cuts, lies, and kills in the middle."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import socket
import tarfile
from pathlib import Path
from typing import Any

import pytest
from support.image import digest_of, layer_tar
from support.processes import wait_for

from rorqual import errdefs
from rorqual.rpc.ingest import Request, Result, Unpack, Writer, open_ingest
from rorqual.rpc.proto import content_pb2, leases_pb2, snapshots_pb2

pytestmark = pytest.mark.root

NS = "test"
TAR = layer_tar({"etc/": b"", "etc/motd": b"hello\n", "data": os.urandom(300_000)})
BLOB = gzip.compress(TAR, 1)
DIGEST, DIFF_ID = digest_of(BLOB), digest_of(TAR)


def request(blob: bytes = BLOB, *, key: str = "", ref: str = "ref", **more: Any) -> Request:
    unpack = Unpack("overlayfs", key) if key else None
    values: dict[str, Any] = {"digest": digest_of(blob), "size": len(blob)} | more
    return Request(NS, ref, unpack=unpack, **values)


async def send(containerd: Any, wanted: Request, blob: bytes = BLOB) -> Result:
    async with await open_ingest(containerd.ingest, wanted) as writer:
        if writer.existing is None:
            await writer.write(memoryview(blob)[writer.offset :])
        return await writer.commit()


async def snapshot_names(client: Any) -> set[str]:
    answers = await client(client.snapshots.List, snapshots_pb2.ListSnapshotsRequest(snapshotter="overlayfs"))
    return {info.name for answer in answers for info in answer.info}


async def no_layer_directories(containerd: Any) -> None:
    """A removed snapshot's files go in a thread, after the answer."""
    await asyncio.to_thread(wait_for, lambda: not layer_directories(containerd), "the layers' directories are gone")


def layer_directories(containerd: Any) -> list[Path]:
    return sorted((containerd.root / "snapshots/overlayfs").glob("*/fs"))


async def test_a_layer_is_stored_and_unpacked_in_one_pass(containerd: Any, client: Any) -> None:
    result = await send(containerd, request(key="k", labels={"a": "b"}))
    assert result == Result(DIFF_ID, len(BLOB), DIGEST)
    (directory,) = layer_directories(containerd)
    assert (directory / "etc/motd").read_bytes() == b"hello\n"
    info = (await client(client.content.Info, content_pb2.InfoRequest(digest=DIGEST))).info
    assert info.size == len(BLOB)
    assert dict(info.labels) == {"a": "b", "containerd.io/uncompressed": DIFF_ID}
    assert (containerd.root / "content/blobs/sha256" / DIGEST[7:]).read_bytes() == BLOB
    usage = await client(client.snapshots.Usage, snapshots_pb2.UsageRequest(snapshotter="overlayfs", key="k"))
    assert usage.size >= 300_000


async def test_without_unpack_the_blob_alone_is_stored(containerd: Any, client: Any) -> None:
    assert await send(containerd, request()) == Result(None, len(BLOB), DIGEST)
    async with await open_ingest(containerd.ingest, request(ref="again")) as writer:
        assert writer.existing == Result(None, len(BLOB), DIGEST)
    await no_layer_directories(containerd)


async def test_a_blob_already_here_is_unpacked_without_sending_it(containerd: Any, client: Any) -> None:
    await send(containerd, request())
    async with await open_ingest(containerd.ingest, request(key="k")) as writer:
        assert writer.existing == Result(DIFF_ID, len(BLOB), DIGEST)
    assert await snapshot_names(client) == {"k"}


async def test_another_namespaces_blob_is_shared(containerd: Any, client: Any) -> None:
    await send(containerd, request())
    async with await open_ingest(containerd.ingest, Request("other", "r", DIGEST, len(BLOB))) as writer:
        assert writer.existing is not None
    await client(client.content.Info, content_pb2.InfoRequest(digest=DIGEST), ns="other")


@pytest.mark.parametrize("key", ["", "k"])
async def test_a_cut_connection_resumes_where_it_was(containerd: Any, client: Any, key: str) -> None:
    half = len(BLOB) // 2
    async with await open_ingest(containerd.ingest, request(key=key)) as writer:
        await writer.write(BLOB[:half])
        with pytest.raises(errdefs.Unavailable, match=f"after {half} of"):
            await writer.commit()
    assert await snapshot_names(client) == set()
    await no_layer_directories(containerd)  # or the cut one's may still be there beside the whole one's
    async with await open_ingest(containerd.ingest, request(key=key)) as writer:
        assert writer.offset == half
        await writer.write(BLOB[half:])
        assert await writer.commit() == Result(DIFF_ID if key else None, len(BLOB), DIGEST)
    if key:
        (directory,) = layer_directories(containerd)
        assert (directory / "etc/motd").read_bytes() == b"hello\n"


@pytest.mark.parametrize("key", ["", "k"])
async def test_other_bytes_than_the_digest_says_are_dropped(containerd: Any, client: Any, key: str) -> None:
    lie = gzip.compress(layer_tar({"x": b"y" * 5000}))
    wanted = request(key=key, size=len(lie))
    with pytest.raises(errdefs.DataLoss, match="unexpected commit digest"):
        await send(containerd, wanted, lie)
    assert await snapshot_names(client) == set()
    assert (await client(client.content.ListStatuses, content_pb2.ListStatusesRequest())).statuses == []
    ingests = containerd.root / "content/ingest"  # files go in a thread, after their rows
    await asyncio.to_thread(wait_for, lambda: list(ingests.iterdir()) == [], "the ingest's file is gone")
    await send(containerd, request(key=key))


async def test_bytes_that_are_no_layer_are_told_as_a_wrong_digest(containerd: Any, client: Any) -> None:
    garbage = os.urandom(len(BLOB))
    with pytest.raises(errdefs.DataLoss, match="unexpected commit digest"):
        await send(containerd, request(key="k"), garbage)
    assert await snapshot_names(client) == set()


async def test_more_bytes_than_announced_are_refused(containerd: Any) -> None:
    with pytest.raises(errdefs.DataLoss, match="more than the announced"):
        await send(containerd, request(size=1000))


async def test_an_honest_blob_that_is_no_layer_leaves_no_snapshot(containerd: Any, client: Any) -> None:
    garbage = os.urandom(50_000)
    with pytest.raises(errdefs.Error):
        await send(containerd, request(garbage, key="k"), garbage)
    assert await snapshot_names(client) == set()
    await no_layer_directories(containerd)


async def test_a_malicious_layer_touches_nothing_outside(containerd: Any, client: Any, tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        tar.addfile(link)
        for name in ("link/canary", "../../../../canary", f"{tmp_path}/canary"):
            entry = tarfile.TarInfo(name)
            entry.size = 1
            tar.addfile(entry, io.BytesIO(b"x"))
    evil = out.getvalue()
    try:
        await send(containerd, request(evil, key="k"), evil)
    except errdefs.Error:
        pass  # refused or kept inside: both are right
    assert not (tmp_path / "canary").exists()
    assert not (containerd.root / "canary").exists()


async def test_one_ref_has_one_writer(containerd: Any) -> None:
    async with await open_ingest(containerd.ingest, request()):
        with pytest.raises(errdefs.Unavailable, match="locked"):
            await open_ingest(containerd.ingest, request())


async def test_layers_come_in_parallel_and_are_stacked_at_the_commit(containerd: Any, client: Any) -> None:
    tars = [layer_tar({f"file{i}": b"x" * 10_000, "same": b"%d" % i}) for i in range(6)]
    blobs = [gzip.compress(tar, 1) for tar in tars]
    await client(client.leases.Create, leases_pb2.CreateRequest(id="pull"))
    await asyncio.gather(
        *(send(containerd, request(b, key=f"k{i}", ref=f"r{i}", lease="pull"), b) for i, b in enumerate(blobs))
    )
    parent = ""
    for i in range(6):
        commit = snapshots_pb2.CommitSnapshotRequest(snapshotter="overlayfs", name=f"chain{i}", key=f"k{i}")
        if parent:
            commit.labels["rorqual/parent"] = parent
        await client(client.snapshots.Commit, commit, lease="pull")
        parent = f"chain{i}"
    prepare = snapshots_pb2.PrepareSnapshotRequest(snapshotter="overlayfs", key="c", parent=parent)
    (mount,) = (await client(client.snapshots.Prepare, prepare)).mounts
    lower = next(o for o in mount.options if o.startswith("lowerdir="))
    top = Path(lower.removeprefix("lowerdir=").split(":")[0])
    assert (top / "same").read_bytes() == b"5"
    assert lower.count(":") == 5
    held = await client(client.leases.ListResources, leases_pb2.ListResourcesRequest(id="pull"))
    assert {r.id for r in held.resources} >= {digest_of(b) for b in blobs} | {f"chain{i}" for i in range(6)}


async def test_an_implied_directory_is_the_parents(containerd: Any, client: Any) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        directory = tarfile.TarInfo("tmp")
        directory.type, directory.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(directory)
    base, top = out.getvalue(), layer_tar({"tmp/file": b"x"})
    await send(containerd, request(base, key="k0", ref="r0"), base)
    await send(containerd, request(top, key="k1", ref="r1"), top)
    for key, name, parent in (("k0", "base", ""), ("k1", "top", "base")):
        commit = snapshots_pb2.CommitSnapshotRequest(snapshotter="overlayfs", name=name, key=key, parent=parent)
        await client(client.snapshots.Commit, commit)
    assert layer_directories(containerd)[1].joinpath("tmp").stat().st_mode & 0o7777 == 0o1777


async def test_a_hard_link_to_a_file_of_the_parent(containerd: Any, client: Any) -> None:
    base, out = layer_tar({"etc/file": b"of the parent"}), io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        link = tarfile.TarInfo("usr/link")
        link.type, link.linkname = tarfile.LNKTYPE, "etc/file"
        tar.addfile(link)
    for number, blob in enumerate((base, out.getvalue(), out.getvalue() + bytes(512))):
        await send(containerd, request(blob, key=f"k{number}", ref=f"r{number}"), blob)
    commit = snapshots_pb2.CommitSnapshotRequest
    await client(client.snapshots.Commit, commit(snapshotter="overlayfs", name="base", key="k0"))
    await client(client.snapshots.Commit, commit(snapshotter="overlayfs", name="top", key="k1", parent="base"))
    assert (layer_directories(containerd)[1] / "usr/link").read_bytes() == b"of the parent"
    with pytest.raises(errdefs.InvalidArgument, match="hard link to 'etc/file', which is not in the layer"):
        await client(client.snapshots.Commit, commit(snapshotter="overlayfs", name="alone", key="k2"))


async def test_sigkill_in_the_middle_leaves_only_the_resumable_bytes(containerd: Any, client: Any) -> None:
    half = len(BLOB) // 2
    writer = await open_ingest(containerd.ingest, request(key="k"))
    await writer.write(BLOB[:half])
    path = next((containerd.root / "content/ingest").iterdir())
    for _ in range(1500):
        if path.stat().st_size >= half:
            break
        await asyncio.sleep(0.01)
    await containerd.kill()
    writer.abort()
    await containerd.start()
    async with await open_ingest(containerd.ingest, request(key="k")) as again:
        assert again.offset == half
        await again.write(BLOB[half:])
        assert await again.commit() == Result(DIFF_ID, len(BLOB), DIGEST)
    await asyncio.to_thread(wait_for, lambda: len(layer_directories(containerd)) == 1, "the cut one's layer is gone")


@pytest.mark.parametrize(
    "line",
    [b"\n", b"{}\n", b"[]\n", b'{"ns":"test","ref":"r","digest":"sha256:../../x"}\n', b"x" * 400_000, b'{"ns":1}\n'],
)
async def test_a_malformed_request_is_told_so(containerd: Any, line: bytes) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(containerd.ingest)
    sock.setblocking(False)
    writer = Writer(sock)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(sock, line)
    except ConnectionError:
        pass  # refused before all of it was read
    with pytest.raises((errdefs.InvalidArgument, errdefs.Unavailable)):
        await writer._line()
    writer.abort()


async def test_unknown_snapshotters_and_leases_are_told(containerd: Any) -> None:
    with pytest.raises(errdefs.NotFound):
        await send(containerd, Request(NS, "r", DIGEST, len(BLOB), unpack=Unpack("zfs", "k")))
    with pytest.raises(errdefs.NotFound):
        await send(containerd, request(lease="none"))


async def test_bytes_of_unknown_digest_become_a_blob_that_the_answer_names(containerd: Any, client: Any) -> None:
    result = await send(containerd, request(digest="", size=0, key="k", ref="unnamed"))
    assert (result.digest, result.diff_id, result.size) == (DIGEST, DIFF_ID, len(BLOB))
    again = await send(containerd, request(digest="", size=0, key="k2", ref="unnamed-2"))
    assert again.digest == DIGEST


async def test_bytes_of_unknown_digest_that_are_cut_leave_nothing(containerd: Any, client: Any) -> None:
    with pytest.raises(errdefs.DataLoss):
        await send(containerd, request(digest="", size=0, key="k", ref="unnamed"), BLOB[:-100])
    assert await snapshot_names(client) == set()
    await no_layer_directories(containerd)
    ingests = containerd.root / "content/ingest"
    await asyncio.to_thread(wait_for, lambda: not any(ingests.iterdir()), "the ingest's file is gone")
