"""DNS messages: one question in, one answer out. Bytes and values only.

    header    id u16 | flags u16 | question, answer, authority, additional counts u16 x 4
    question  name | type u16 | class u16         name: length-prefixed labels, ended by a zero length
    record    name | type u16 | class u16 | ttl u32 | length u16 | data

Source: RFC 1035 section 4, RFC 6891 section 6.1 (OPT).
"""

import struct

A, PTR, AAAA, OPT, ANY = 1, 12, 28, 41, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5

TTL_S = 600  # what Docker says
UDP_MAX = 512  # without EDNS, RFC 1035 section 4.2.1
TCP_MAX = 65535  # what the length in front of it can say
_EDNS_MAX = 1232
_NAME_MAX = 255  # bytes in wire form
_OPT_RECORD = struct.pack("!BHHIH", 0, OPT, _EDNS_MAX, 0, 0)

_HEADER = struct.Struct("!HHHHHH")
_TYPE_CLASS = struct.Struct("!HH")
_RESPONSE, _TRUNCATED, _RECURSION_AVAILABLE = 0x8000, 0x0200, 0x0080
_OPCODE, _RECURSION_DESIRED = 0x7800, 0x0100
# Owner name of every answer: a pointer to the question's, which stands right behind the header.
_POINTER = b"\xc0\x0c"


class Query:
    """A question as it came. `name` is lower-cased, without the last dot; `raw` the question section's bytes, which
    an answer repeats as they were; `limit` how many bytes the asker takes by UDP."""

    __slots__ = ("edns", "flags", "ident", "limit", "name", "qclass", "qtype", "raw")

    def __init__(self, ident: int, flags: int, name: str, qtype: int, qclass: int, raw: bytes) -> None:
        self.ident, self.flags = ident, flags
        self.name, self.qtype, self.qclass, self.raw = name, qtype, qclass, raw
        self.edns = False
        self.limit = UDP_MAX


def parse(data: bytes) -> Query | None:
    """The question of a message; None for what deserves no answer (not a query at all, or cut short)."""
    if len(data) < 17:
        return None
    ident, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & (_RESPONSE | _OPCODE) or questions != 1 or answers or authorities:
        return None
    labels: list[str] = []
    at, end = 12, len(data)
    while True:
        if at >= end:
            return None
        length = data[at]
        at += 1
        if not length:
            break
        if length > 63 or at + length > end or at > 12 + 255:  # also pointers: a question has nothing to point to
            return None
        labels.append(data[at : at + length].decode("latin-1"))
        at += length
    if at + 4 > end:
        return None
    qtype, qclass = _TYPE_CLASS.unpack_from(data, at)
    query = Query(ident, flags, ".".join(labels).lower(), qtype, qclass, data[12 : at + 4])
    at += 4
    if additional and at + 11 <= end and data[at] == 0 and _TYPE_CLASS.unpack_from(data, at + 1)[0] == OPT:
        query.edns = True
        query.limit = min(max(_TYPE_CLASS.unpack_from(data, at + 1)[1], UDP_MAX), _EDNS_MAX)
    return query


def answer(query: Query, rdatas: "list[bytes] | tuple[bytes, ...]" = (), code: int = NOERROR, limit: int = 0) -> bytes:
    """The answer that gives these records of the asked type. `limit` bytes at most (0: no limit): records that do not
    fit are left out and the answer says that it is truncated, so that the asker comes again by TCP."""
    flags = _RESPONSE | _RECURSION_AVAILABLE | (query.flags & _RECURSION_DESIRED) | code
    tail = _OPT_RECORD if query.edns else b""
    records = [_POINTER + struct.pack("!HHIH", query.qtype, IN, TTL_S, len(rdata)) + rdata for rdata in rdatas]
    if limit:
        room = limit - 12 - len(query.raw) - len(tail)
        kept = 0
        for record in records:
            room -= len(record)
            if room < 0:
                flags |= _TRUNCATED
                break
            kept += 1
        records = records[:kept]
    header = _HEADER.pack(query.ident, flags, 1, len(records), 0, 1 if tail else 0)
    return header + query.raw + b"".join(records) + tail


def failure(data: bytes, question: bytes, code: int) -> bytes:
    """The answer to `data` that gives nothing but `code`; it repeats the question, or resolvers would ignore it."""
    ident, flags = struct.unpack_from("!HH", data)
    flags = _RESPONSE | _RECURSION_AVAILABLE | (flags & (_OPCODE | _RECURSION_DESIRED)) | code
    return _HEADER.pack(ident, flags, 1 if question else 0, 0, 0, 0) + question


def is_query(data: bytes) -> bool:
    """Whether it has a header that says question, so that a refusal may be sent back."""
    return len(data) >= 12 and not data[2] & 0x80


def rcode(data: bytes) -> int:
    return data[3] & 0x0F


def encode_name(name: str) -> bytes:
    """The wire form. Raises ValueError for a label that is empty or longer than 63 bytes, a name longer than 255."""
    out = bytearray()
    for label in name.rstrip(".").split("."):
        raw = label.encode("latin-1", "replace")
        if not 0 < len(raw) < 64:
            raise ValueError(f"invalid DNS label in {name!r}")
        out += bytes((len(raw),)) + raw
    out.append(0)
    if len(out) > _NAME_MAX:
        raise ValueError(f"DNS name {name[:64]!r}… is too long")
    return bytes(out)


def reverse_address(name: str) -> bytes | None:
    """The address (4 or 16 bytes) whose PTR name this is: `2.0.17.172.in-addr.arpa`, or 32 nibbles under ip6.arpa."""
    try:
        if name.endswith(".in-addr.arpa"):
            octets = [int(part) for part in name[:-13].split(".")]
            return bytes(reversed(octets)) if len(octets) == 4 else None
        if name.endswith(".ip6.arpa"):
            digits = name[:-9].split(".")
            if len(digits) == 32 and all(len(digit) == 1 for digit in digits):
                return bytes.fromhex("".join(reversed(digits)))
    except ValueError:
        return None
    return None
