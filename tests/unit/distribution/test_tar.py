"""The tar reader against whatever bytes: entries or an error of ours, never anything else."""

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tars

from rorqual.distribution.unpack.limits import Limits
from rorqual.distribution.unpack.tar import Entry, Feed, TarReader, parse_pax
from rorqual.distribution.unpack.zstdframes import FrameWalker
from rorqual.errdefs import DataLoss, Error, InvalidArgument


def entries(data: bytes, chunk: int = 1 << 20) -> list[tuple[Entry, bytes]]:
    stream = io.BytesIO(data)
    reader = TarReader(Feed(lambda: stream.read(chunk)), Limits(max_header_bytes=1 << 16))
    return [(entry, b"".join(reader.data())) for entry in reader]


SAMPLES = [
    tars.member(b"plain", b"x" * 700) + tars.symlink(b"l", b"t") + tars.END,
    tars.pax([(b"path", b"long/" * 40), (b"mtime", b"1.5"), (b"SCHILY.xattr.user.a", b"b")]) + tars.member(b"s", b"1"),
    tars.pax([(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"2000"),
              (b"GNU.sparse.name", b"real")]) + tars.member(b"s", tars.padded(b"1\n1000\n512\n") + bytes(512)),
    tars.pax([(b"GNU.sparse.map", b"0,512,1024,512"), (b"GNU.sparse.size", b"2000")]) + tars.member(b"s", bytes(1024)),
    tars.with_tarfile([(tarfile.TarInfo("n" * 300), b"data")], tarfile.GNU_FORMAT),
]  # fmt: skip


@pytest.mark.parametrize("chunk", [1, 7, 511, 512, 513, 100_000])
def test_chunk_sizes_do_not_matter(chunk: int) -> None:
    for sample in SAMPLES:
        assert entries(sample, chunk) == entries(sample)


def test_data_not_taken_is_skipped() -> None:
    stream = io.BytesIO(tars.member(b"a", bytes(5000)) + tars.member(b"b", b"2") + tars.END)
    assert [entry.name for entry in TarReader(Feed(lambda: stream.read(600)), Limits())] == [b"a", b"b"]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8), st.booleans()
)
def test_changed_bytes_give_entries_or_errors_of_ours(
    sample: bytes, changes: list[tuple[int, int]], repaired: bool
) -> None:
    data = bytearray(sample)
    for position, value in changes:
        data[position % len(data)] = value
    if repaired:
        # With the checksums right again the fields behind them are reached.
        for start in range(0, len(data) - 511, 512):
            if data[start + 257 : start + 262] == b"ustar":
                data[start : start + 512] = tars.checked(data[start : start + 512])
    try:
        entries(bytes(data))
    except Error:
        pass


@given(st.binary(max_size=200))
def test_pax_records_parse_or_are_refused(data: bytes) -> None:
    try:
        parse_pax(data)
    except InvalidArgument:
        pass


def test_base_256_and_signed_checksums() -> None:
    block = bytearray(tars.header(b"\xff\xfename", b"0", 0))
    block[108:116] = (1 << 63 | 3_000_000).to_bytes(8, "big")
    unsigned = tars.checked(block)
    ((entry, _),) = entries(unsigned + tars.END)
    assert entry.uid == 3_000_000
    block[148:156] = b" " * 8
    signed = sum(byte - 256 if byte > 127 else byte for byte in block)
    block[148:156] = b"%06o\0 " % signed
    assert len(entries(bytes(block) + tars.END)) == 1


def test_a_negative_size_is_refused() -> None:
    block = bytearray(tars.header(b"f"))
    block[124:136] = b"\xff" * 12
    with pytest.raises(InvalidArgument):
        entries(tars.checked(block))


@given(st.lists(st.binary(min_size=0, max_size=300_000), min_size=1, max_size=3), st.integers(1, 70_000), st.booleans())
@settings(max_examples=40, deadline=None)
def test_zstd_frames_are_followed_to_their_end(contents: list[bytes], chunk: int, checksum: bool) -> None:
    import zstandard

    packer = zstandard.ZstdCompressor(write_checksum=checksum)
    stream = (
        b"".join(packer.compress(content) for content in contents) + (0x184D2A53).to_bytes(4, "little") + b"\2\0\0\0ab"
    )
    walker = FrameWalker()
    for start in range(0, len(stream), chunk):
        walker.feed(stream[start : start + chunk])
    walker.check_end()
    cut = FrameWalker()
    cut.feed(stream[:-1])
    with pytest.raises(DataLoss):
        cut.check_end()
