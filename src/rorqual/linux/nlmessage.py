"""What all netlink families share: flags of messages, and attributes.

    nlattr, rtattr    len u16 | type u16 | data, padded to 4

Source: netlink(7), linux/netlink.h.
"""

import struct

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLA_F_NESTED = 0x8000
SOL_NETLINK = 270

_ATTR = struct.Struct("=HH")


def attr(kind: int, data: bytes) -> bytes:
    """One rtattr, padded."""
    return _ATTR.pack(len(data) + 4, kind) + data + b"\0" * (-len(data) & 3)


def attr_u32(kind: int, value: int) -> bytes:
    return struct.pack("=HHI", 8, kind, value)


def attr_u8(kind: int, value: int) -> bytes:
    return struct.pack("=HHBxxx", 5, kind, value)


def attr_str(kind: int, text: str) -> bytes:
    return attr(kind, text.encode() + b"\0")


def parse_attrs(data: bytes) -> dict[int, bytes]:
    """The attributes of `data` by type, flag bits taken off; of repeated ones the last."""
    found: dict[int, bytes] = {}
    at, end = 0, len(data)
    while at + 4 <= end:
        length, kind = _ATTR.unpack_from(data, at)
        if length < 4 or at + length > end:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found
