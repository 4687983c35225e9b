"""Protocol Buffers' wire format: numbers and records, for those who can't afford protobuf's own runtime.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_64_BITS = 0xFFFF_FFFF_FFFF_FFFF


def put_varint(out: bytearray, value: int) -> None:
    """Append a number that is not negative."""
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def put_number(out: bytearray, number: int, value: int) -> None:
    """Append a varint record; a negative value is its two's complement of 64 bits."""
    put_varint(out, number << 3)
    put_varint(out, value & _64_BITS)


def put_bytes(out: bytearray, number: int, data: bytes | bytearray) -> None:
    """Append a length-delimited record: bytes, a string, a message."""
    put_varint(out, number << 3 | 2)
    put_varint(out, len(data))
    out += data


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """(the number that begins there, where it ends). Raises: ValueError, IndexError where the data end."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint of more than 64 bits")


def records(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, a varint's number or the content's bytes) of each record. Raises: as varint."""
    at, end = 0, len(data)
    while at < end:
        tag, at = varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = varint(data, at)
            yield tag >> 3, value
            continue
        if wire == 2:
            size, at = varint(data, at)
        elif wire == 1:
            size = 8
        elif wire == 5:
            size = 4
        else:
            raise ValueError(f"wire type {wire}")
        if size > end - at:
            raise ValueError(f"field {tag >> 3} is cut short")
        yield tag >> 3, data[at : at + size]
        at += size


def content(raw: int | memoryview) -> memoryview:
    """The bytes of a record. Raises: ValueError for a number in their place: `bytes` would make as many zeros of it."""
    if isinstance(raw, int):
        raise ValueError("a number where a string or a message is expected")
    return raw
