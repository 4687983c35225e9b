"""Tar headers as other readers understand them."""

import io
import tarfile

import pytest

from rorqual.distribution.pack import headers
from rorqual.distribution.pack.headers import END, Member, encode, encode_sparse
from rorqual.distribution.unpack.limits import DEFAULT_LIMITS
from rorqual.distribution.unpack.tar import Feed, TarReader


def with_tarfile(data: bytes) -> tarfile.TarInfo:
    with tarfile.open(fileobj=io.BytesIO(data + END), encoding="utf-8", errors="surrogateescape") as tar:
        return tar.getmembers()[0]


def with_reader(data: bytes) -> object:
    pieces = iter([data + END, b""])
    return next(iter(TarReader(Feed(lambda: next(pieces)), DEFAULT_LIMITS)))


@pytest.mark.parametrize(
    "member",
    [
        Member(b"plain", mode=0o6755, uid=1, gid=2, mtime_s=1_700_000_000),
        Member(b"d" * 90 + b"/" + b"n" * 90, kind=headers.DIRECTORY),
        Member(b"a" * 101, kind=headers.FIFO),
        Member(b"long/" * 60 + b"name"),
        Member("größe/ \n=x".encode()),
        Member(b"raw\xff\xfe"),
        Member(b"link", kind=headers.SYMLINK, link=b"t" * 101),
        Member(b"link", kind=headers.SYMLINK, link="zü".encode()),
        Member(b"ids", uid=1 << 31, gid=(1 << 32) - 2),
        Member(b"old", mtime_s=-1),
        Member(b"older", mtime_s=-(1 << 33)),
        Member(b"late", mtime_s=1 << 34),
        Member(b"dev", kind=headers.CHAR, major=4095, minor=(1 << 20) - 1),
        Member(b"caps", xattrs={b"security.capability": b"\x01\0\0\x02\n=\0", b"user.b": b"", b"user.a": b"x" * 400}),
    ],
    ids=lambda member: repr(member.name[:12]),
)
def test_what_is_written_is_what_readers_find(member: Member) -> None:
    data = encode(member)
    assert len(data) % 512 == 0
    theirs = with_tarfile(data)
    assert theirs.name.encode("utf-8", "surrogateescape") == member.name
    assert theirs.linkname.encode("utf-8", "surrogateescape") == member.link
    assert (theirs.uid, theirs.gid, theirs.mode, theirs.mtime) == (
        member.uid,
        member.gid,
        member.mode,
        member.mtime_s,
    )
    assert (theirs.devmajor, theirs.devminor) == (member.major, member.minor)
    ours = with_reader(data)
    assert (ours.name, ours.link, ours.uid, ours.gid, ours.mode) == (  # type: ignore[attr-defined]
        member.name,
        member.link,
        member.uid,
        member.gid,
        member.mode,
    )
    assert ours.mtime_ns == member.mtime_s * 10**9  # type: ignore[attr-defined]
    assert (ours.xattrs or {}) == member.xattrs  # type: ignore[attr-defined]


def test_a_file_of_more_than_eight_gigabytes_says_its_size() -> None:
    block = encode(Member(b"huge", size=9 << 30))
    with tarfile.open(fileobj=io.BytesIO(block), mode="r|") as tar:
        info = tar.next()
    assert info is not None
    assert info.size == 9 << 30


def test_a_record_counts_the_digits_of_its_own_length() -> None:
    for length in (*range(1, 12), *range(85, 105), *range(985, 1005)):
        (record,) = [headers._record(b"k", b"v" * length)]
        told, _, rest = record.partition(b" ")
        assert int(told) == len(record)
        assert rest == b"k=" + b"v" * length + b"\n"


def test_a_sparse_file_is_read_back_with_its_holes() -> None:
    header, padding = encode_sparse(Member(b"dir/s", size=1 << 20), [(4096, 4096), (1 << 20, 0)])
    data = header + b"x" * 4096 + bytes(padding)
    assert len(data) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(data + END)) as tar:
        info = tar.getmembers()[0]
        content = tar.extractfile(info).read()  # type: ignore[union-attr]
    assert (info.name, info.size) == ("dir/s", 1 << 20)
    assert content == bytes(4096) + b"x" * 4096 + bytes((1 << 20) - 8192)
