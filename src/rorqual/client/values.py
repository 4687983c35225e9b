"""Readers of scalar values as Go's strconv, time and go-units read them, with their error texts.

All raise ValueError with the text that follows `invalid argument "x" for "--flag" flag: `.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\"}
_DURATION_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
INT64_MAX = 2**63 - 1


def quote(text: str, *, single: bool = False, ascii_only: bool = False) -> str:
    """`text` as Go's %q writes it (a string; with `single` a rune)."""
    mark = "'" if single else '"'
    if mark not in text and "\\" not in text and text.isascii() and text.isprintable():
        return f"{mark}{text}{mark}"
    out = [mark]
    for c in text:
        code = ord(c)
        if c == mark:
            out.append("\\" + c)
        elif c in _ESCAPES:
            out.append(_ESCAPES[c])
        elif 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, in Python's surrogateescape form
            out.append(f"\\x{code - 0xDC00:02x}")
        elif code < 0x20 or code == 0x7F:
            out.append(f"\\x{code:02x}")
        elif c == " " or (c.isprintable() and not (ascii_only and code > 0x7E)):
            out.append(c)
        elif code < 0x10000:
            out.append(f"\\u{code:04x}")
        else:
            out.append(f"\\U{code:08x}")
    out.append(mark)
    return "".join(out)


def parse_bool(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"strconv.ParseBool: parsing {quote(text)}: invalid syntax")


def _base0(text: str) -> int | None:
    """An integer in Go's base-0 syntax (0x, 0o, 0b, leading 0 octal, underscores); None when it is none."""
    sign = 1
    body = text
    if body[:1] in ("+", "-"):
        sign = -1 if body[0] == "-" else 1
        body = body[1:]
    if not body or body != body.strip() or body[0] in "+-_":
        return None
    try:
        if len(body) > 1 and body[0] == "0" and body[1].isdigit():
            return sign * int(body[1:], 8)
        return sign * int(body, 0) if body.isascii() else None
    except ValueError:
        return None


def parse_int(text: str) -> int:
    value = _base0(text)
    if value is None:
        raise ValueError(f"strconv.ParseInt: parsing {quote(text)}: invalid syntax")
    if not -(2**63) <= value <= INT64_MAX:
        raise ValueError(f"strconv.ParseInt: parsing {quote(text)}: value out of range")
    return value


def parse_uint(text: str, bits: int = 64) -> int:
    value = None if text[:1] in ("+", "-") else _base0(text)
    if value is None:
        raise ValueError(f"strconv.ParseUint: parsing {quote(text)}: invalid syntax")
    if value >= 2**bits:
        raise ValueError(f"strconv.ParseUint: parsing {quote(text)}: value out of range")
    return value


def parse_uint16(text: str) -> int:
    return parse_uint(text, 16)


def parse_uint32(text: str) -> int:
    return parse_uint(text, 32)


def parse_bytes(text: str) -> int:
    """A size in bytes: "512", "64m", "1.5GiB"; binary units, -1 allowed. Source: go-units RAMInBytes."""
    value = text.strip()
    split = len(value)
    while split and not (value[split - 1].isdigit() or value[split - 1] in ". "):
        split -= 1
    number, suffix = value[:split], value[split:]
    if not number or " " in number[:-1]:
        raise ValueError(f"invalid size: '{text}'")
    number = number.removesuffix(" ")
    try:
        size = float(number)
    except ValueError as e:
        raise ValueError(f"invalid size: '{text}'") from e
    if size < 0:
        if text == "-1":
            return -1
        raise ValueError(f"invalid size: '{text}'")
    unit = suffix.lower()
    if not unit or unit == "b":
        return int(size)
    power = "kmgtp".find(unit[0])
    if power < 0 or unit[1:] not in ("", "b", "ib"):
        raise ValueError(f"invalid suffix: '{suffix}'")
    return int(size * 1024 ** (power + 1))


def parse_cpus(text: str) -> int:
    """CPUs as a decimal or a fraction, in billionths: "1.5" is 1_500_000_000."""
    from fractions import Fraction

    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError) as e:
        raise ValueError(f"failed to parse {text} as a rational number") from e
    nano = value * 1_000_000_000
    if nano.denominator != 1:
        raise ValueError("value is too precise")
    return int(nano)


def parse_duration_ns(text: str) -> int:
    """A duration as Go's time.ParseDuration reads it, in nanoseconds: "1h30m", "1.5s", "0"."""
    body = text
    sign = 1
    if body[:1] in ("+", "-"):
        sign = -1 if body[0] == "-" else 1
        body = body[1:]
    if body == "0":
        return 0
    if not body:
        raise ValueError(f"time: invalid duration {quote(text)}")
    total = 0.0
    exact = 0
    while body:
        end = 0
        while end < len(body) and (body[end].isdigit() or body[end] == "."):
            end += 1
        number, body = body[:end], body[end:]
        if not number.strip(".") or number.count(".") > 1 or not number.isascii():
            raise ValueError(f"time: invalid duration {quote(text)}")
        end = 0
        while end < len(body) and body[end] != "." and not body[end].isdigit():
            end += 1
        unit, body = body[:end], body[end:]
        if not unit:
            raise ValueError(f"time: missing unit in duration {quote(text)}")
        if unit not in _DURATION_NS:
            raise ValueError(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
        if "." in number:
            total += float(number) * _DURATION_NS[unit]
        else:
            exact += int(number) * _DURATION_NS[unit]
    value = exact + int(total)
    if value > INT64_MAX:
        raise ValueError(f"time: invalid duration {quote(text)}")
    return sign * value


def parse_filter(text: str) -> tuple[str, str] | None:
    """`name=value` as (name, value), the name lower-case; None for an empty one."""
    if not text:
        return None
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError("bad format of filter (expected name=value)")
    return name.strip().lower(), value.strip()


def merge_filters(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Filters by name, each with its values in order and once."""
    out: dict[str, list[str]] = {}
    for name, value in pairs:
        have = out.setdefault(name, [])
        if value not in have:
            have.append(value)
    return out


def split_csv(text: str) -> list[str]:
    """One CSV record (quotes as in RFC 4180). Raises: ValueError with encoding/csv's text."""
    if '"' not in text:
        return text.split(",") if text else []
    fields: list[str] = []
    position, size = 0, len(text)
    while True:
        if position < size and text[position] == '"':
            position += 1
            piece: list[str] = []
            while True:
                end = text.find('"', position)
                if end < 0:
                    raise ValueError(
                        f'parse error on line 1, column {size + 1}: extraneous or missing " in quoted-field'
                    )
                piece.append(text[position:end])
                position = end + 1
                if position < size and text[position] == '"':
                    piece.append('"')
                    position += 1
                    continue
                break
            if position < size and text[position] != ",":
                raise ValueError(
                    f'parse error on line 1, column {position + 1}: extraneous or missing " in quoted-field'
                )
            fields.append("".join(piece))
        else:
            end = text.find(",", position)
            end = size if end < 0 else end
            if (bad := text.find('"', position, end)) >= 0:
                raise ValueError(f'parse error on line 1, column {bad + 1}: bare " in non-quoted-field')
            fields.append(text[position:end])
            position = end
        if position >= size:
            return fields
        position += 1
