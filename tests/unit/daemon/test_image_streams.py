"""What images are made of on their way: patterns of filters, compressions, threads that parse while a loop reads."""

import asyncio
import bz2
import gzip
import lzma
import threading
from collections.abc import AsyncIterator
from typing import cast

import pytest
import zstandard

from rorqual.daemon.services.images import archive as archives
from rorqual.daemon.services.images import patterns
from rorqual.daemon.services.images.bridge import BodyReader, Bridge, Feed
from rorqual.daemon.services.images.compress import gzipped, layer_stream
from rorqual.errdefs import Cancelled, DataLoss, InvalidArgument
from rorqual.oci import mediatypes

TAR = b"header and data " * 100_000


async def pieces(data: bytes, size: int = 70_001) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def joined(source: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in source])


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("busy*", "busybox", True),
        ("*", "team/app", False),
        ("*/*", "team/app", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        (r"\*", "*", True),
        ("a.c", "abc", False),
        ("[]]", "]", True),
    ],
)
def test_patterns_match_as_go_does(pattern: str, name: str, fits: bool) -> None:
    assert (patterns.compile(pattern).fullmatch(name) is not None) == fits


@pytest.mark.parametrize("pattern", ["[", "[a", "\\", "[b-a]"])
def test_broken_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidArgument, match="syntax error in pattern"):
        patterns.compile(pattern)


@pytest.mark.parametrize(
    ("compress", "media_type", "kept"),
    [
        (bytes, mediatypes.OCI_LAYER, True),
        (gzip.compress, mediatypes.OCI_LAYER_GZIP, True),
        (zstandard.compress, mediatypes.OCI_LAYER_ZSTD, True),
        (bz2.compress, mediatypes.OCI_LAYER, False),
        (lzma.compress, mediatypes.OCI_LAYER, False),
        (lambda data: bz2.compress(data[:1000]) + bz2.compress(data[1000:]), mediatypes.OCI_LAYER, False),
    ],
)
async def test_layers_keep_the_compressions_that_layers_may_have(compress: object, media_type: str, kept: bool) -> None:
    data = compress(TAR)  # type: ignore[operator]
    found, stream = await layer_stream(pieces(data))
    assert found == media_type
    assert await joined(stream) == (data if kept else TAR)


@pytest.mark.parametrize("compress", [bz2.compress, lzma.compress])
async def test_a_cut_archive_is_found_out(compress: object) -> None:
    _, stream = await layer_stream(pieces(compress(TAR)[:-20]))  # type: ignore[operator]
    with pytest.raises(DataLoss):
        await joined(stream)


def greedy_xz() -> bytes:
    """One that makes who reads it hold 256 MiB."""
    return lzma.compress(TAR, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 256 << 20}])


async def test_xz_that_asks_for_much_memory_is_refused() -> None:
    _, stream = await layer_stream(pieces(greedy_xz()))
    with pytest.raises(DataLoss, match=r"[Mm]emory"):
        await joined(stream)


async def test_an_archive_that_asks_for_much_memory_is_not_loaded() -> None:
    with pytest.raises(DataLoss, match=r"[Mm]emory"):
        await archives.read(pieces(greedy_xz()), cast(archives.LayerMaker, None), lambda *_: None)


async def test_the_same_tar_compresses_to_the_same_bytes() -> None:
    one, other = await joined(gzipped(pieces(TAR))), await joined(gzipped(pieces(TAR, 333)))
    assert one == other
    assert gzip.decompress(one) == TAR


async def test_a_thread_reads_what_the_loop_has() -> None:
    bridge = Bridge()
    reader = BodyReader(bridge, pieces(TAR))

    def read() -> bytes:
        found = []
        while piece := reader.read(1000):
            found.append(piece)
        return b"".join(found)

    assert await bridge.run(read) == TAR


async def test_a_cancelled_reader_ends_its_thread() -> None:
    bridge = Bridge()
    waiting = asyncio.Event()
    ended = threading.Event()

    async def never() -> AsyncIterator[bytes]:
        waiting.set()
        await asyncio.Event().wait()
        yield b""

    reader = BodyReader(bridge, never())

    def read() -> None:
        try:
            reader.read(10)
        except Cancelled:
            ended.set()
            raise

    task = asyncio.create_task(bridge.run(read))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_a_feed_whose_reader_has_ended_takes_everything() -> None:
    feed = Feed()
    for _ in range(4):
        await feed.put(b"x")
    full = asyncio.create_task(feed.put(b"y"))
    await asyncio.sleep(0)
    assert not full.done()
    feed.close()
    await full
    for _ in range(10):
        await feed.put(b"z")
