"""D-Bus messages as bytes. No I/O.

Values are Python's: int, bool, str, list (arrays), tuple (structures), and `Variant` where the type travels along.
Source: D-Bus Specification, "Type System" and "Message Protocol".
"""

from __future__ import annotations

import struct

from rorqual.errdefs import DataLoss
from rorqual.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

METHOD_CALL, METHOD_RETURN, ERROR, SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SENDER, _SIGNATURE = range(1, 9)

SIZE_MAX = 1 << 20  # of what this runtime asks and is answered; the protocol's own limit is 128 MiB
_DEPTH_MAX = 32
HEAD_SIZE = 16  # up to and with the length of the header's fields

_FIXED = {"y": "B", "b": "I", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d"}
_ALIGNMENT = {"y": 1, "b": 4, "n": 2, "q": 2, "i": 4, "u": 4, "x": 8, "t": 8, "d": 8, "s": 4, "o": 4, "g": 1, "a": 4}
_ALIGNMENT |= {"(": 8, "{": 8, "v": 1}


@record
class Variant:
    """A value with its type: `Variant("t", 5)`."""

    signature: str
    value: Any


@record
class Message:
    """`serial`: of this message; `reply_to`: of the call that it answers, 0 for none. `body`: its arguments."""

    type: int
    serial: int
    reply_to: int
    path: str
    interface: str
    member: str
    error: str
    body: tuple[Any, ...]


def call(
    serial: int, destination: str, path: str, interface: str, member: str, signature: str, body: Sequence[Any]
) -> bytes:
    """A method call. `destination` is empty on a connection without a bus in between."""
    fields = [(_PATH, Variant("o", path)), (_INTERFACE, Variant("s", interface)), (_MEMBER, Variant("s", member))]
    if destination:
        fields.append((_DESTINATION, Variant("s", destination)))
    if signature:
        fields.append((_SIGNATURE, Variant("g", signature)))
    return encode_message(METHOD_CALL, serial, fields, signature, body)


def encode_message(
    kind: int, serial: int, fields: list[tuple[int, Variant]], signature: str, body: Sequence[Any]
) -> bytes:
    """Head, padded to 8 bytes, and body, little-endian (D-Bus specification, Message Format)."""
    content = encode(signature, body)
    head = encode("yyyyuua(yv)", (ord("l"), kind, 0, 1, len(content), serial, fields))
    return head + bytes(-len(head) % 8) + content


def length(head: bytes) -> int:
    """The size of the whole message that begins with these HEAD_SIZE bytes. Raises: DataLoss."""
    order = _order(head)
    body, _, fields = struct.unpack_from(order + "III", head, 4)
    total = HEAD_SIZE + int(fields) + (-int(fields) % 8) + int(body)
    if total > SIZE_MAX:
        raise DataLoss(f"D-Bus message of {total} bytes is too long")
    return total


def decode_message(data: bytes) -> Message:
    """Raises: DataLoss."""
    order = _order(data)
    head, end = _decode("yyyyuua(yv)", data, 0, order)
    fields = {code: variant.value for code, variant in head[6]}
    body, _ = _decode(fields.get(_SIGNATURE, ""), data[end + -end % 8 :], 0, order)
    return Message(
        head[1],
        head[5],
        fields.get(_REPLY_SERIAL, 0),
        fields.get(_PATH, ""),
        fields.get(_INTERFACE, ""),
        fields.get(_MEMBER, ""),
        fields.get(_ERROR_NAME, ""),
        tuple(body),
    )


def _order(data: bytes) -> str:
    if data[:1] not in (b"l", b"B"):
        raise DataLoss(f"D-Bus message with byte order {data[:1]!r}")
    return "<" if data[:1] == b"l" else ">"


def split(signature: str) -> list[str]:
    """The complete types that a signature names: `a(sv)u` is an array and a number. Raises: ValueError."""
    types, at = [], 0
    while at < len(signature):
        end = _end(signature, at)
        types.append(signature[at:end])
        at = end
    return types


def _end(signature: str, at: int, depth: int = 0) -> int:
    code = signature[at : at + 1]
    if code not in _ALIGNMENT or not code or depth > _DEPTH_MAX:
        raise ValueError(f"no D-Bus type at {at} of {signature!r}")
    if code == "a":
        return _end(signature, at + 1, depth + 1)
    if code not in "({":
        return at + 1
    close = ")" if code == "(" else "}"
    at += 1
    if signature[at : at + 1] == close:
        raise ValueError(f"empty structure at {at} of {signature!r}")
    while signature[at : at + 1] != close:
        at = _end(signature, at, depth + 1)
    return at + 1


def encode(signature: str, values: Sequence[Any]) -> bytes:
    """Raises: struct.error, ValueError of a value that the type has not."""
    out = bytearray()
    for kind, value in zip(split(signature), values, strict=True):
        _put(out, kind, value)
    return bytes(out)


def _put(out: bytearray, kind: str, value: Any) -> None:
    code = kind[0]
    out += bytes(-len(out) % _ALIGNMENT[code])
    if code in _FIXED:
        out += struct.pack("<" + _FIXED[code], value)
    elif code in "so":
        text = value.encode()
        out += struct.pack("<I", len(text)) + text + b"\0"
    elif code == "g":
        out += bytes((len(value),)) + value.encode() + b"\0"
    elif code == "v":
        _put(out, "g", value.signature)
        _put(out, value.signature, value.value)
    elif code == "a":
        at = len(out)
        out += bytes(4 + -(len(out) + 4) % _ALIGNMENT[kind[1]])  # the padding is not counted
        start = len(out)
        for item in value:
            _put(out, kind[1:], item)
        struct.pack_into("<I", out, at, len(out) - start)
    else:
        for part, item in zip(split(kind[1:-1]), value, strict=True):
            _put(out, part, item)


def _decode(signature: str, data: bytes, at: int, order: str) -> tuple[list[Any], int]:
    try:
        values = []
        for kind in split(signature):
            value, at = _take(data, at, kind, order, 0)
            values.append(value)
        return values, at
    except (struct.error, ValueError, IndexError, TypeError, AttributeError) as e:
        raise DataLoss(f"D-Bus message is damaged: {e}") from e


def _take(data: bytes, at: int, kind: str, order: str, depth: int) -> tuple[Any, int]:
    if depth > _DEPTH_MAX:
        raise ValueError("nested too deep")
    code = kind[0]
    at += -at % _ALIGNMENT[code]
    if code in _FIXED:
        (number,) = struct.unpack_from(order + _FIXED[code], data, at)
        return bool(number) if code == "b" else number, at + struct.calcsize("<" + _FIXED[code])
    if code in "so":
        (size,) = struct.unpack_from(order + "I", data, at)
        return _text(data, at + 4, size)
    if code == "g":
        return _text(data, at + 1, data[at])
    if code == "v":
        signature, at = _take(data, at, "g", order, depth)
        value, at = _take(data, at, signature, order, depth + 1)
        return Variant(signature, value), at
    if code == "a":
        (size,) = struct.unpack_from(order + "I", data, at)
        at += 4 + -(at + 4) % _ALIGNMENT[kind[1]]
        end, items = at + size, []
        while at < end:
            item, at = _take(data, at, kind[1:], order, depth + 1)
            items.append(item)
        return items, at
    parts = []
    for part in split(kind[1:-1]):
        value, at = _take(data, at, part, order, depth + 1)
        parts.append(value)
    return tuple(parts), at


def _text(data: bytes, at: int, size: int) -> tuple[str, int]:
    if at + size >= len(data):
        raise ValueError("a text longer than its message")
    return data[at : at + size].decode(), at + size + 1
