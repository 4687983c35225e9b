"""Tars byte by byte, so that tests can say what no well-behaved tool would write."""

import io
import tarfile
from collections.abc import Iterable

BLOCK = 512
END = bytes(2 * BLOCK)


def header(
    name: bytes,
    kind: bytes = b"0",
    size: int = 0,
    *,
    link: bytes = b"",
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 1_700_000_000,
    major: int = 0,
    minor: int = 0,
) -> bytes:
    """One ustar header with its checksum."""
    block = bytearray(BLOCK)
    block[: min(len(name), 100)] = name[:100]
    for start, length, number in ((100, 8, mode), (108, 8, uid), (116, 8, gid), (124, 12, size), (136, 12, mtime)):
        block[start : start + length] = b"%0*o\0" % (length - 1, number)
    block[156:157] = kind
    block[157 : 157 + len(link)] = link
    block[257:265] = b"ustar\x0000"
    block[329:337] = b"%07o\0" % major
    block[337:345] = b"%07o\0" % minor
    return checked(block)


def checked(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def member(name: bytes, data: bytes = b"", **fields: int) -> bytes:
    return header(name, b"0", len(data), **fields) + padded(data)


def directory(name: bytes, **fields: int) -> bytes:
    return header(name, b"5", mode=fields.pop("mode", 0o755), **fields)


def symlink(name: bytes, target: bytes) -> bytes:
    return header(name, b"2", link=target)


def hardlink(name: bytes, target: bytes) -> bytes:
    return header(name, b"1", link=target)


def pax(records: Iterable[tuple[bytes, bytes]], kind: bytes = b"x") -> bytes:
    """An extended header for the next member."""
    data = b""
    for key, value in records:
        rest = b" " + key + b"=" + value + b"\n"
        length = len(rest)
        while len(str(length)) + len(rest) != length:
            length = len(str(length)) + len(rest)
        data += str(length).encode() + rest
    return header(b"pax", kind, len(data)) + padded(data)


def with_tarfile(members: Iterable[tuple[tarfile.TarInfo, bytes]], format: int) -> bytes:
    """What Python's own writer makes of `members` in `format`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()
