"""Tar headers: ustar, with a pax header in front where ustar has no room. Pure: fields in, blocks out.

One tree gives one sequence of bytes: no user names, whole seconds, records in a fixed order.
Source: pax(1) of POSIX; GNU tar, "PAX Format 1.0" of sparse files; SCHILY.xattr as star and Go's archive/tar have it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

BLOCK = 512
END = bytes(2 * BLOCK)
REGULAR, HARDLINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_PAX = b"x"
_MAX_OCTAL_7 = 0o7777777
_MAX_OCTAL_11 = 0o77777777777
_MAGIC = b"ustar\x0000"
_NO_NAMES = bytes(64)
_NAME_BYTES = 100
_PREFIX_BYTES = 155


@dataclass(slots=True)
class Member:
    """One entry's header. `size` is the file's length in bytes; times are whole seconds since 1970, or before."""

    name: bytes
    kind: bytes = REGULAR
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_s: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)


def encode(member: Member) -> bytes:
    """The blocks in front of the member's data."""
    records = _records(member)
    if not records:
        return _block(member, member.size)
    return extended(member.name, records) + _block(member, member.size)


def encode_sparse(member: Member, parts: Sequence[tuple[int, int]]) -> tuple[bytes, int]:
    """Header, sparse map, and the padding behind the parts' data, of a file whose other bytes are zero.

    The parts are ascending (offset, length); their data follow, one behind the other. Source: GNU tar, PAX format 1.0.
    """
    numbers = [len(parts), *(number for part in parts for number in part)]
    text = b"".join(b"%d\n" % number for number in numbers)
    table = text + bytes(-len(text) % BLOCK)
    stored = len(table) + sum(length for _, length in parts)
    directory, _, base = member.name.rpartition(b"/")
    shown = directory + b"/GNUSparseFile.0/" + base if directory else b"GNUSparseFile.0/" + base
    records = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", member.name)]
    records += [(b"GNU.sparse.realsize", b"%d" % member.size)]
    plain = Member(
        name=shown[-_NAME_BYTES:],
        mode=member.mode,
        uid=member.uid,
        gid=member.gid,
        size=stored,
        mtime_s=member.mtime_s,
        xattrs=member.xattrs,
    )
    records += _records(plain)
    header = extended(member.name, records) + _block(plain, stored)
    return header + table, -stored % BLOCK


def extended(name: bytes, records: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A pax header with `records` for the next member, which is `name`."""
    if any(not _is_utf8(value) for key, value in records if key in (b"path", b"linkpath", b"GNU.sparse.name")):
        # POSIX: values are UTF-8 unless this says that they are bytes.
        records = [(b"hdrcharset", b"BINARY"), *records]
    data = b"".join(_record(key, value) for key, value in records)
    base = name.rstrip(b"/").rpartition(b"/")[2]
    own = Member(name=(b"PaxHeaders.0/" + base)[:_NAME_BYTES], kind=_PAX)
    return _block(own, len(data)) + data + bytes(-len(data) % BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    """`length key=value\\n`, the length counting its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(b"%d" % rest)
    length = rest + len(b"%d" % length)
    return b"%d %b=%b\n" % (length, key, value)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _records(member: Member) -> list[tuple[bytes, bytes]]:
    """What a ustar header cannot say."""
    records: list[tuple[bytes, bytes]] = []
    if not member.name.isascii() or _split(member.name) is None:
        records.append((b"path", member.name))
    if len(member.link) > _NAME_BYTES or not member.link.isascii():
        records.append((b"linkpath", member.link))
    if member.size > _MAX_OCTAL_11:
        records.append((b"size", b"%d" % member.size))
    if member.uid > _MAX_OCTAL_7:
        records.append((b"uid", b"%d" % member.uid))
    if member.gid > _MAX_OCTAL_7:
        records.append((b"gid", b"%d" % member.gid))
    if not 0 <= member.mtime_s <= _MAX_OCTAL_11:
        records.append((b"mtime", b"%d" % member.mtime_s))
    if member.xattrs:
        records += [(b"SCHILY.xattr." + key, member.xattrs[key]) for key in sorted(member.xattrs)]
    return records


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """(prefix, name) of the header's two fields; None when it does not fit."""
    if len(name) <= _NAME_BYTES:
        return b"", name
    # The last slash that leaves something behind it: a directory's own trailing one does not count.
    slash = name.rfind(b"/", 0, min(_PREFIX_BYTES + 1, len(name) - 1))
    if slash <= 0 or len(name) - slash - 1 > _NAME_BYTES:
        return None
    return name[:slash], name[slash + 1 :]


def _block(member: Member, size: int) -> bytes:
    """One header block; what does not fit is zero or cut, and said by the pax header."""
    prefix, name = _split(member.name) or (b"", member.name[:_NAME_BYTES])
    head = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        name.ljust(_NAME_BYTES, b"\0"),
        member.mode & 0o7777,
        member.uid if member.uid <= _MAX_OCTAL_7 else 0,
        member.gid if member.gid <= _MAX_OCTAL_7 else 0,
        size if size <= _MAX_OCTAL_11 else 0,
        member.mtime_s if 0 <= member.mtime_s <= _MAX_OCTAL_11 else 0,
    )
    tail = b"%b%b%b%b%07o\0%07o\0%b" % (
        member.kind,
        member.link[:_NAME_BYTES].ljust(_NAME_BYTES, b"\0"),
        _MAGIC,
        _NO_NAMES,
        member.major,
        member.minor,
        prefix.ljust(_PREFIX_BYTES + 12, b"\0"),
    )
    return head + b"%06o\0 " % (_sum(head) + _sum(tail) + 8 * 32) + tail


def _sum(data: bytes) -> int:
    """The sum of the bytes."""
    if data.isascii():
        # The low half of Adler-32 is 1 + the sum modulo 65521, which 364 bytes below 128 cannot reach: much faster.
        return (zlib.adler32(data) & 0xFFFF) - 1
    return sum(data)
