"""A layer's compressed stream to its tar: which compression the first bytes tell, decompressed in bounded pieces.

Whatever the media type says, the magic decides, as in containerd. Source: RFC 1952, RFC 8878.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from typing import IO, Protocol, cast

from rorqual.distribution.unpack.zstdframes import FrameWalker
from rorqual.errdefs import DataLoss

_GZIP = b"\x1f\x8b\x08"
_ZSTD = b"\x28\xb5\x2f\xfd"
_BZIP2 = b"BZh"
_XZ = b"\xfd7zXZ\0"
_ZSTD_SKIPPABLE = (b"\x2a\x4d\x18",)
# As zstd's own command line: a frame may not make the reader hold more than this.
_ZSTD_MAX_WINDOW = 128 << 20
# Decoding what `xz -9` made takes 65 MiB.
XZ_MAX_BYTES = 128 << 20
# Compressed bytes asked of the stream at once.
_READ_BYTES = 256 << 10


class ByteStream(Protocol):
    """What `read` gives: at most `size` bytes, fewer where the peer sent fewer, b"" at the end."""

    def read(self, size: int, /) -> bytes: ...


class CountedStream(io.RawIOBase):
    """The compressed stream with its first bytes put back, counting what passed."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._head = b""
        self.count = 0
        self.walker: FrameWalker | None = None

    def readable(self) -> bool:
        return True

    def peek_magic(self) -> bytes:
        """The first 4 bytes (fewer if there are no more)."""
        while len(self._head) < 4:
            more = self._stream.read(_READ_BYTES)
            if not more:
                break
            self._head += more
        return self._head[:4]

    def read(self, size: int = -1, /) -> bytes:
        if self._head:
            data = self._head[:size] if size >= 0 else self._head
            self._head = self._head[len(data) :]
        else:
            data = self._stream.read(size if size > 0 else _READ_BYTES)
        self.count += len(data)
        if self.walker is not None:
            self.walker.feed(data)
        return data

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # Buffer has a name since Python 3.12
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


def reader(stream: CountedStream, chunk_bytes: int) -> Callable[[], bytes]:
    """A function that gives the tar's next bytes, at most `chunk_bytes`, b"" at the end.

    It raises: DataLoss for a damaged or cut stream.
    """
    magic = stream.peek_magic()
    if magic[:3] == _GZIP:
        return _gzip(stream, chunk_bytes)
    if is_compressed(magic):
        return _zstd(stream, chunk_bytes)
    # A plain tar begins with a name: one digit less is taken for bzip2.
    if (magic[:3] == _BZIP2 and magic[3:].isdigit() and magic[3:] != b"0") or magic == _XZ[:4]:
        return _other(stream, chunk_bytes, magic)
    return lambda: stream.read(chunk_bytes)


def is_compressed(magic: bytes) -> bool:
    """Whether a stream with these first 4 bytes would be decompressed."""
    if magic[:3] == _GZIP or magic == _ZSTD:
        return True
    return magic[1:4] in _ZSTD_SKIPPABLE and 0x50 <= magic[0] <= 0x5F


def _gzip(stream: CountedStream, chunk_bytes: int) -> Callable[[], bytes]:
    # 2.3 times zlib here; also reads several members one behind the other, as pigz and stargz write.
    from isal import igzip, isal_zlib

    # Not OSError as a whole: the stream's own errors pass as they are.
    damaged = (EOFError, gzip.BadGzipFile, cast(type[Exception], isal_zlib.error))
    source = igzip.IGzipFile(fileobj=stream, mode="rb")  # type: ignore[no-untyped-call]  # isal has no types

    def next_chunk() -> bytes:
        try:
            data: bytes = source.read(chunk_bytes)
        except damaged as error:
            raise DataLoss(f"invalid gzip stream: {error}") from error
        return data

    return next_chunk


def _other(stream: CountedStream, chunk_bytes: int, magic: bytes) -> Callable[[], bytes]:
    """bzip2 or xz, several streams one behind the other too. Never by a program (CVE-2026-41567)."""
    import bz2
    import lzma

    def new() -> bz2.BZ2Decompressor | lzma.LZMADecompressor:
        if magic[:3] == _BZIP2:
            return bz2.BZ2Decompressor()
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MAX_BYTES)

    decoder = new()

    def next_chunk() -> bytes:
        nonlocal decoder
        while True:
            fresh = b""
            if decoder.eof:
                fresh = decoder.unused_data.lstrip(b"\0") or stream.read(_READ_BYTES).lstrip(b"\0")
                if not fresh:
                    return b""
                decoder = new()
            elif decoder.needs_input:
                fresh = stream.read(_READ_BYTES)
                if not fresh:
                    raise DataLoss("invalid compressed stream: it ends early")
            try:
                data = decoder.decompress(fresh, chunk_bytes)
            except (OSError, lzma.LZMAError, ValueError, EOFError) as error:
                raise DataLoss(f"invalid compressed stream: {error}") from error
            if data:
                return data

    return next_chunk


def _zstd(stream: CountedStream, chunk_bytes: int) -> Callable[[], bytes]:
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW)
    walker = stream.walker = FrameWalker()
    source = decompressor.stream_reader(cast(IO[bytes], stream), read_size=_READ_BYTES, read_across_frames=True)

    def next_chunk() -> bytes:
        try:
            data = source.read(chunk_bytes)
        except zstandard.ZstdError as error:
            raise DataLoss(f"invalid zstd stream: {error}") from error
        if not data:
            walker.check_end()
        return data

    return next_chunk
