"""Content over gRPC: sessions of writes, offsets, resume, ranges; images and leases around it."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from grpclib.exceptions import GRPCError
from support.image import digest_of
from support.processes import wait_for

from rorqual import errdefs
from rorqual.rpc.channel import scope
from rorqual.rpc.proto import content_pb2 as pb
from rorqual.rpc.proto import images_pb2, leases_pb2
from rorqual.rpc.status import from_grpc

pytestmark = pytest.mark.root

NS = "test"
BLOB = os.urandom(3_000_000)
DIGEST = digest_of(BLOB)


async def session(client: Any, *requests: pb.WriteContentRequest, lease: str = "") -> list[pb.WriteContentResponse]:
    answers = []
    async with client.content.Write.open(metadata=scope(NS, lease)) as stream:
        try:
            for number, request in enumerate(requests):
                await stream.send_message(request, end=number == len(requests) - 1)
                answer = await stream.recv_message()
                if answer is None:
                    await stream.recv_trailing_metadata()
                answers.append(answer)
        except GRPCError as e:
            raise from_grpc(e) from e
    return answers


def write(data: bytes, offset: int = 0, **more: Any) -> pb.WriteContentRequest:
    return pb.WriteContentRequest(action=pb.WRITE, ref="r", data=data, offset=offset, **more)


def commit(offset: int, **more: Any) -> pb.WriteContentRequest:
    return pb.WriteContentRequest(action=pb.COMMIT, ref="r", offset=offset, **more)


async def read(client: Any, digest: str, offset: int = 0, size: int = 0) -> bytes:
    answers = await client(client.content.Read, pb.ReadContentRequest(digest=digest, offset=offset, size=size))
    return b"".join(answer.data for answer in answers)


async def store(client: Any, data: bytes = BLOB, **more: Any) -> None:
    await session(client, write(data), commit(len(data), **more))


async def test_what_was_written_is_read(client: Any) -> None:
    answers = await session(
        client,
        pb.WriteContentRequest(action=pb.STAT, ref="r", total=len(BLOB), expected=DIGEST),
        write(BLOB[:1_000_000]),
        write(BLOB[1_000_000:], 1_000_000),
        commit(len(BLOB), labels={"a": "b"}),
    )
    assert [a.offset for a in answers] == [0, 1_000_000, len(BLOB), len(BLOB)]
    assert answers[-1].digest == DIGEST
    assert await read(client, DIGEST) == BLOB
    assert await read(client, DIGEST, 1_500_000, 1_200_000) == BLOB[1_500_000:2_700_000]
    assert await read(client, DIGEST, len(BLOB)) == b""
    with pytest.raises(errdefs.InvalidArgument):
        await read(client, DIGEST, len(BLOB) + 1)
    with pytest.raises(errdefs.NotFound):
        await read(client, digest_of(b"other"))


async def test_a_write_goes_on_in_another_session_and_after_sigkill(containerd: Any, client: Any) -> None:
    await session(client, write(BLOB[:1_000_000], expected=DIGEST, total=len(BLOB)))
    await containerd.kill()
    await containerd.start()
    status = (await client(client.content.Status, pb.StatusRequest(ref="r"))).status
    assert (status.offset, status.total, status.expected) == (1_000_000, len(BLOB), DIGEST)
    answers = await session(client, write(BLOB[1_000_000:], 1_000_000), commit(len(BLOB)))
    assert answers[-1].digest == DIGEST


async def test_what_a_client_was_told_survives_sigkill(containerd: Any, client: Any) -> None:
    image = images_pb2.Image(name="img")
    image.target.digest, image.target.media_type, image.target.size = DIGEST, "m", len(BLOB)
    await client(client.leases.Create, leases_pb2.CreateRequest(id="l"))
    await session(client, write(BLOB), commit(len(BLOB)), lease="l")
    await client(client.images.Create, images_pb2.CreateImageRequest(image=image))
    await containerd.kill()
    await containerd.start()
    assert await read(client, DIGEST) == BLOB
    assert (await client(client.images.Get, images_pb2.GetImageRequest(name="img"))).image.target.digest == DIGEST


async def test_a_wrong_offset_size_or_digest_is_refused(client: Any) -> None:
    with pytest.raises(errdefs.InvalidArgument, match="must occur at current offset 10"):
        await session(client, write(BLOB[:10]), write(BLOB[10:], 11))
    with pytest.raises(errdefs.Conflict, match="unexpected commit size"):
        await session(client, write(BLOB), commit(len(BLOB), total=5))
    with pytest.raises(errdefs.Conflict, match="unexpected commit digest"):
        await session(client, write(BLOB), commit(len(BLOB), expected=digest_of(b"x")))
    with pytest.raises(errdefs.InvalidArgument, match="invalid digest"):
        await session(client, write(BLOB, expected="sha256:../../../etc/passwd"))
    with pytest.raises(errdefs.NotFound):
        await client(client.content.Info, pb.InfoRequest(digest=DIGEST))


async def test_an_existing_blob_is_not_written_again(client: Any) -> None:
    await store(client)
    with pytest.raises(errdefs.AlreadyExists):
        await store(client)
    with pytest.raises(errdefs.AlreadyExists):
        await session(client, pb.WriteContentRequest(action=pb.STAT, ref="r2", expected=DIGEST))


async def test_two_writers_of_a_ref_exclude_each_other(client: Any) -> None:
    async with client.content.Write.open(metadata=scope(NS)) as stream:
        await stream.send_message(write(BLOB[:10]))
        await stream.recv_message()
        with pytest.raises(errdefs.Unavailable, match="locked"):
            await session(client, write(BLOB))
        with pytest.raises(errdefs.Conflict):
            await client(client.content.Abort, pb.AbortRequest(ref="r"))
        await stream.cancel()
    for _ in range(1000):
        try:
            await client(client.content.Abort, pb.AbortRequest(ref="r"))
            break
        except errdefs.Conflict:
            await asyncio.sleep(0.01)
    with pytest.raises(errdefs.NotFound):
        await client(client.content.Status, pb.StatusRequest(ref="r"))


async def test_listing_by_filter(client: Any) -> None:
    await store(client, b"one", labels={"k": "1"})
    await store(client, b"two", labels={"k": "2"})
    answers = await client(client.content.List, pb.ListContentRequest(filters=["labels.k==2"]))
    assert [i.digest for a in answers for i in a.info] == [digest_of(b"two")]
    with pytest.raises(errdefs.InvalidArgument):
        await client(client.content.List, pb.ListContentRequest(filters=["=="]))


async def test_a_deleted_image_frees_its_content_but_never_a_leases(containerd: Any, client: Any) -> None:
    await client(client.leases.Create, leases_pb2.CreateRequest(id="l"))
    await session(client, write(BLOB), commit(len(BLOB)), lease="l")
    image = images_pb2.Image(name="img")
    image.target.digest, image.target.media_type, image.target.size = DIGEST, "m", len(BLOB)
    await client(client.images.Create, images_pb2.CreateImageRequest(image=image))
    await client(client.images.Delete, images_pb2.DeleteImageRequest(name="img", sync=True))
    assert await read(client, DIGEST) == BLOB
    await client(client.leases.Delete, leases_pb2.DeleteRequest(id="l", sync=True))
    with pytest.raises(errdefs.NotFound):
        await client(client.content.Info, pb.InfoRequest(digest=DIGEST))
    blobs = containerd.root / "content/blobs/sha256"  # files go in a thread, after their rows
    await asyncio.to_thread(wait_for, lambda: list(blobs.iterdir()) == [], "the blob's file is gone")


async def test_a_call_without_namespace_is_refused(client: Any) -> None:
    with pytest.raises(GRPCError, match="namespace is required"):
        await client.content.Info(pb.InfoRequest(digest=DIGEST))
