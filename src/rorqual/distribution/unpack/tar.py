"""A lean tar reader: ustar, pax, GNU long names, GNU and pax sparse files, base-256 numbers, SCHILY xattrs.

Bytes in, `Entry` objects out; nothing here touches the disk. Python's tarfile spends most of its time on objects that
layers never need (measured: see apply.py). Source: pax(1) of POSIX, tar(5), GNU tar's "Basic Tar Format".
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rorqual.distribution.unpack.limits import Limits
from rorqual.errdefs import DataLoss, InvalidArgument, ResourceExhausted

BLOCK = 512
_ZERO_BLOCK = bytes(BLOCK)

REGULAR, HARDLINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_SPARSE = b"S"
# Their size field means nothing and no data follows.
_HEADER_ONLY = frozenset((HARDLINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO))
_XATTR = b"SCHILY.xattr."


# Not frozen: one is made for every file of a layer, and a frozen one costs 3 us more (a tenth of the whole entry).
@dataclass(slots=True)
class Entry:
    """One member. `size` is the file's length; its data are `stored` bytes (less than `size` when sparse)."""

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    stored: int
    mtime_ns: int
    atime_ns: int
    link: bytes
    major: int
    minor: int
    xattrs: dict[bytes, bytes] | None = None
    # (offset, length) of each part that holds data, when sparse.
    sparse: list[tuple[int, int]] | None = None


class Feed:
    """The tar's bytes, whatever the sizes in which they come."""

    __slots__ = ("_chunk", "_end", "_next", "_position")

    def __init__(self, next_chunk: Callable[[], bytes]) -> None:
        """`next_chunk` gives the next bytes, b"" at the end."""
        self._next = next_chunk
        self._chunk = memoryview(b"")
        self._position = 0
        self._end = 0

    def _refill(self) -> bool:
        chunk = self._next()
        self._chunk = memoryview(chunk)
        self._position = 0
        self._end = len(chunk)
        return self._end > 0

    def block(self) -> bytes:
        """The next 512 bytes; b"" at the end of the stream."""
        start = self._position
        if self._end - start >= BLOCK:
            self._position = start + BLOCK
            return bytes(self._chunk[start : start + BLOCK])
        return self.take(BLOCK, may_end=True)

    def take(self, count: int, *, may_end: bool = False) -> bytes:
        """Exactly `count` bytes, as one object; b"" at the end of the stream when it `may_end` here."""
        pieces = []
        missing = count
        while missing:
            if self._position == self._end and not self._refill():
                if may_end and missing == count:
                    return b""
                raise DataLoss("unexpected end of the tar stream")
            stop = min(self._end, self._position + missing)
            pieces.append(self._chunk[self._position : stop])
            missing -= stop - self._position
            self._position = stop
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def pieces(self, count: int) -> Iterator[memoryview]:
        """The next `count` bytes as they lie in memory."""
        while count:
            if self._position == self._end and not self._refill():
                raise DataLoss("unexpected end of the tar stream")
            stop = min(self._end, self._position + count)
            piece = self._chunk[self._position : stop]
            self._position = stop
            count -= len(piece)
            yield piece

    def skip(self, count: int) -> None:
        stop = self._position + count
        if stop <= self._end:
            self._position = stop
            return
        for _ in self.pieces(count):
            pass

    def ends_within(self, count: int) -> bool:
        """Skip `count` bytes; whether the stream ended before them."""
        while count:
            if self._position == self._end and not self._refill():
                return True
            step = min(self._end - self._position, count)
            self._position += step
            count -= step
        return False

    def drain(self) -> None:
        """Reads to the end of the stream: what follows the last entry belongs to the diff ID too."""
        self._position = self._end
        while self._refill():
            pass


def _number(field_: bytes) -> int:
    """An octal or base-256 number field."""
    if (head := field_[:-1]).isdigit() and field_[-1] in b"\0 ":  # as nearly every tar has it
        try:
            return int(head, 8)
        except ValueError:
            raise InvalidArgument(f"invalid number {head!r} in a tar header") from None
    if field_[0] & 0x80:
        # Base 256, two's complement in the bits behind the mark.
        value = int.from_bytes(field_, "big") & ((1 << (8 * len(field_) - 1)) - 1)
        return value - (1 << (8 * len(field_) - 1)) if field_[0] & 0x40 else value
    text = field_.partition(b"\0")[0].strip()
    if not text:
        return 0
    if text.strip(b"01234567"):
        raise InvalidArgument(f"invalid number {text!r} in a tar header")
    return int(text, 8)


def _checksum_fits(block: bytes) -> bool:
    stored = _number(block[148:156])
    # The low half of Adler-32 is 1 + the sum of the bytes modulo 65521: thirty times faster than summing in Python.
    others = (zlib.adler32(block) & 0xFFFF) - 1 - sum(block[148:156]) + 256
    if (others - stored) % 65521 == 0:
        return True
    # Old tars sum signed chars.
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + block[156:]) + 256
    return signed == stored


def _time_ns(text: bytes) -> int:
    """A pax time (`1700000000.123456789`) in nanoseconds."""
    whole, _, fraction = text.partition(b".")
    try:
        seconds = int(whole)
        nanos = int(fraction[:9].ljust(9, b"0")) if fraction else 0
    except ValueError as error:
        raise InvalidArgument(f"invalid time {text[:40]!r} in a pax header") from error
    return seconds * 1_000_000_000 + (-nanos if whole.startswith(b"-") else nanos)


def _decimal(text: bytes, what: str) -> int:
    if not text.isdigit() or len(text) > 19:
        raise InvalidArgument(f"invalid {what} {text[:40]!r} in a pax header")
    return int(text)


def parse_pax(data: bytes) -> list[tuple[bytes, bytes]]:
    """The `length key=value\\n` records. Raises: InvalidArgument."""
    records = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        length_text = data[position:space] if space > 0 else b""
        if not length_text.isdigit():
            raise InvalidArgument("invalid pax header: no record length")
        end = position + int(length_text)
        equals = data.find(b"=", space, end)
        if end > len(data) or end <= space + 1 or equals < 0 or data[end - 1] != 0x0A:
            raise InvalidArgument("invalid pax header: record length does not fit")
        records.append((data[space + 1 : equals], data[equals + 1 : end - 1]))
        position = end
    return records


@dataclass(slots=True)
class _Pending:
    """What extended headers said about the next entry."""

    name: bytes | None = None
    link: bytes | None = None
    size: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime_ns: int | None = None
    atime_ns: int | None = None
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    sparse: dict[bytes, bytes] = field(default_factory=dict)
    # GNU.sparse.offset and numbytes repeat in format 0.0.
    sparse_parts: list[bytes] = field(default_factory=list)


class TarReader:
    """Iterates the entries. The consumer takes an entry's `stored` bytes with `data()` before the next, or none."""

    def __init__(self, feed: Feed, limits: Limits) -> None:
        self._feed = feed
        self._limits = limits
        self._left = 0
        self._padding = 0

    def data(self) -> Iterator[memoryview]:
        """The present entry's stored bytes, once."""
        left, self._left = self._left, 0
        return self._feed.pieces(left)

    def __iter__(self) -> Iterator[Entry]:
        feed = self._feed
        pending: _Pending | None = None
        headers = 0
        while True:
            feed.skip(self._left)
            ended = self._padding > 0 and feed.ends_within(self._padding)
            self._left = self._padding = 0
            if ended:
                break  # as Go's reader: docker's own contexts end with their last byte
            block = feed.block()
            if not block:
                break
            if block == _ZERO_BLOCK:
                # One zero block ends the archive in practice, though POSIX wants two.
                break
            if not _checksum_fits(block):
                raise DataLoss("invalid tar header: its checksum does not fit")
            kind = block[156:157]
            if kind in b"xXgLK" and kind:
                headers += 1
                if headers > 16:
                    raise InvalidArgument("more than 16 extended headers before one tar entry")
                pending = self._extended(block, kind, pending or _Pending())
                continue
            headers = 0
            entry = self._entry(block, kind, pending)
            pending = None
            yield entry
        if pending is not None:
            raise DataLoss("unexpected end of the tar stream behind an extended header")
        feed.drain()

    def _extended(self, block: bytes, kind: bytes, pending: _Pending) -> _Pending:
        size = _number(block[124:136])
        if not 0 <= size <= self._limits.max_header_bytes:
            raise ResourceExhausted(
                f"a tar header of {size} bytes, at most {self._limits.max_header_bytes} are allowed"
            )
        data = self._feed.take(size) if size else b""
        self._feed.skip(-size % BLOCK)
        if kind == b"L":
            pending.name = data.partition(b"\0")[0]
        elif kind == b"K":
            pending.link = data.partition(b"\0")[0]
        elif kind != b"g":
            # Global headers are ignored, as containerd does: they carry a commit ID in practice.
            self._pax(data, pending)
        return pending

    def _pax(self, data: bytes, pending: _Pending) -> None:
        for key, value in parse_pax(data):
            if key == b"path":
                pending.name = value
            elif key == b"linkpath":
                pending.link = value
            elif key == b"size":
                pending.size = _decimal(value, "size")
            elif key == b"uid":
                pending.uid = _decimal(value, "uid")
            elif key == b"gid":
                pending.gid = _decimal(value, "gid")
            elif key == b"mtime":
                pending.mtime_ns = _time_ns(value)
            elif key == b"atime":
                pending.atime_ns = _time_ns(value)
            elif key.startswith(_XATTR):
                if len(value) > self._limits.max_xattr_bytes or len(pending.xattrs) >= self._limits.max_xattrs:
                    raise ResourceExhausted("extended attributes of a tar entry are too large or too many")
                pending.xattrs[key[len(_XATTR) :]] = value
            elif key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                pending.sparse_parts.append(value)
            elif key.startswith(b"GNU.sparse."):
                pending.sparse[key[11:]] = value

    def _entry(self, block: bytes, kind: bytes, pending: _Pending | None) -> Entry:
        name = block[:100].partition(b"\0")[0]
        magic = block[257:263]
        if magic == b"ustar\0" and block[345]:
            name = block[345:500].partition(b"\0")[0] + b"/" + name
        if kind in (b"\0", b"7"):
            kind = REGULAR if kind == b"7" or not name.endswith(b"/") else DIRECTORY
        size = _number(block[124:136])
        mtime_ns = _number(block[136:148]) * 1_000_000_000
        entry = Entry(
            name=name,
            kind=kind,
            mode=_number(block[100:108]) & 0o7777,
            uid=_number(block[108:116]),
            gid=_number(block[116:124]),
            size=size,
            stored=size,
            mtime_ns=mtime_ns,
            atime_ns=mtime_ns,
            link=block[157:257].partition(b"\0")[0],
            major=_number(block[329:337]) if kind in (CHAR, BLOCKDEV) else 0,
            minor=_number(block[337:345]) if kind in (CHAR, BLOCKDEV) else 0,
        )
        if pending is not None:
            self._override(entry, pending)
        if kind in _HEADER_ONLY:
            entry.size = entry.stored = 0
        if not 0 <= entry.stored < 1 << 62 or not 0 <= entry.uid < 1 << 32 or not 0 <= entry.gid < 1 << 32:
            raise InvalidArgument(f"layer entry {show(name)}: size, uid or gid out of range")
        self._left = entry.stored
        self._padding = -entry.stored % BLOCK
        if kind == _SPARSE:
            self._old_sparse(entry, block)
        elif pending is not None and (pending.sparse or pending.sparse_parts):
            self._pax_sparse(entry, pending)
        return entry

    def _override(self, entry: Entry, pending: _Pending) -> None:
        if pending.name is not None:
            entry.name = pending.name
        if pending.link is not None:
            entry.link = pending.link
        if pending.size is not None:
            entry.size = entry.stored = pending.size
        if pending.uid is not None:
            entry.uid = pending.uid
        if pending.gid is not None:
            entry.gid = pending.gid
        if pending.mtime_ns is not None:
            entry.mtime_ns = entry.atime_ns = pending.mtime_ns
        if pending.atime_ns is not None:
            entry.atime_ns = max(pending.atime_ns, entry.mtime_ns)
        if pending.xattrs:
            entry.xattrs = pending.xattrs

    def _old_sparse(self, entry: Entry, block: bytes) -> None:
        """GNU's own sparse header: four parts in the header, 21 in each extension block."""
        entry.kind = REGULAR
        entry.size = _number(block[483:495])
        parts: list[tuple[int, int]] = []
        area, count, extended = block[386:482], 4, block[482] != 0
        while True:
            for number in range(count):
                part = area[number * 24 : number * 24 + 24]
                if part[0] == 0:
                    break
                parts.append((_number(part[:12]), _number(part[12:])))
            if not extended:
                break
            if len(parts) > self._limits.max_sparse_parts:
                break
            area, count = self._feed.take(BLOCK), 21
            extended = area[504] != 0
        self._set_sparse(entry, parts)

    def _pax_sparse(self, entry: Entry, pending: _Pending) -> None:
        """pax sparse formats 0.0 (repeated records), 0.1 (one map record) and 1.0 (a map before the data)."""
        said = pending.sparse
        entry.size = _decimal(said.get(b"realsize") or said.get(b"size") or b"", "sparse size")
        if b"name" in said:
            entry.name = said[b"name"]
        if said.get(b"major") == b"1":
            numbers = self._sparse_map_before_data(entry)
        elif b"map" in said:
            numbers = [_decimal(text, "sparse map") for text in said[b"map"].split(b",") if text]
        else:
            numbers = [_decimal(text, "sparse map") for text in pending.sparse_parts]
        self._set_sparse(entry, list(zip(numbers[::2], numbers[1::2], strict=False)))

    def _sparse_map_before_data(self, entry: Entry) -> list[int]:
        text = b""
        wanted = -1
        while wanted < 0 or text.count(b"\n") <= wanted:
            if entry.stored < BLOCK or len(text) > 24 * 2 * self._limits.max_sparse_parts:
                raise InvalidArgument(f"layer entry {show(entry.name)}: invalid sparse map")
            text += self._feed.take(BLOCK)
            entry.stored -= BLOCK
            self._left -= BLOCK
            if wanted < 0 and b"\n" in text:
                wanted = 2 * _decimal(text.partition(b"\n")[0], "sparse map")
                if wanted > 2 * self._limits.max_sparse_parts:
                    raise ResourceExhausted(f"layer entry {show(entry.name)}: too many sparse parts")
        return [_decimal(line, "sparse map") for line in text.split(b"\n")[1 : wanted + 1]]

    def _set_sparse(self, entry: Entry, parts: list[tuple[int, int]]) -> None:
        """Takes the map after checking it: ascending, inside the file, and exactly the stored bytes."""
        if len(parts) > self._limits.max_sparse_parts:
            raise ResourceExhausted(f"layer entry {show(entry.name)}: too many sparse parts")
        end = total = 0
        for offset, length in parts:
            if offset < end or length < 0:
                raise InvalidArgument(f"layer entry {show(entry.name)}: invalid sparse map")
            end = offset + length
            total += length
        if end > entry.size or total != entry.stored or entry.size >= 1 << 62:
            raise InvalidArgument(f"layer entry {show(entry.name)}: sparse map does not fit the file's size")
        entry.sparse = parts


def show(name: bytes) -> str:
    """A name for an error text: quoted, control characters escaped, at most 200 characters."""
    text = name.decode("utf-8", "backslashreplace")
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:200]) + '"'
