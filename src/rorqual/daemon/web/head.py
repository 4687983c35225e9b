"""A request's head: the request line and the fields, checked as strictly as a proxy in front would read them.

What two readers could understand differently (two lengths, a length beside chunks, a folded field, a space before a
colon) is refused, so that nobody can smuggle a second request in a first one. Source: RFC 9112 sections 2, 3, 5, 6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

HEAD_MAX = 384 * 1024  # bytes; X-Registry-Auth and X-Registry-Config hold tokens of some 100 KiB
LENGTH_DIGITS_MAX = 18  # below 2**63

_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([!-~\x80-\xff]+) HTTP/1\.([01])")
_FIELD = re.compile(
    # The possessive quantifier keeps a long run of blanks from being split in every way before it is refused.
    r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*+((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?)[ \t]*"
)


class Malformed(Exception):
    """A head or a body that is no HTTP/1.1; the connection ends after the answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Headers(Mapping[str, str]):
    """Fields by name, whatever its case; a field that came more than once is one list (RFC 9110 section 5.2)."""

    __slots__ = ("_fields",)

    def __init__(self, fields: dict[str, str]) -> None:
        """`fields`: names in lower case."""
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


@dataclass(frozen=True, slots=True)
class Head:
    """One request's head. `length` is that of its body in bytes, None when it comes in chunks."""

    method: str
    target: str
    version: tuple[int, int]
    headers: Headers
    length: int | None
    keep_alive: bool
    expects_continue: bool


def parse(raw: bytes) -> Head:
    """The head without its final empty line. Raises: Malformed."""
    lines = raw.decode("latin-1").split("\r\n")
    first = _REQUEST_LINE.fullmatch(lines[0])
    if first is None:
        raise Malformed(400, "malformed HTTP request")
    fields: dict[str, str] = {}
    for line in lines[1:]:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise Malformed(400, "malformed MIME header line")
        name, value = match[1].lower(), match[2]
        if name in fields:
            if name in ("host", "content-length", "transfer-encoding"):
                raise Malformed(400, f"more than one {match[1]} header")
            value = f"{fields[name]}, {value}"
        fields[name] = value
    version = (1, int(first[3]))
    if version == (1, 1) and "host" not in fields:
        raise Malformed(400, "missing required Host header")
    options = {option.strip().lower() for option in fields.get("connection", "").split(",")}
    return Head(
        method=first[1],
        target=first[2],
        version=version,
        headers=Headers(fields),
        length=_length(fields, version),
        keep_alive="close" not in options if version == (1, 1) else "keep-alive" in options,
        expects_continue=version == (1, 1) and fields.get("expect", "").lower() == "100-continue",
    )


def _length(fields: Mapping[str, str], version: tuple[int, int]) -> int | None:
    coding = fields.get("transfer-encoding")
    length = fields.get("content-length")
    if coding is not None:
        if length is not None:
            raise Malformed(400, "both Content-Length and Transfer-Encoding")
        if version == (1, 0) or coding.lower() != "chunked":
            raise Malformed(501, "unsupported transfer encoding")
        return None
    if length is None:
        return 0
    if not (length.isascii() and length.isdigit() and len(length) <= LENGTH_DIGITS_MAX):
        raise Malformed(400, "bad Content-Length")
    return int(length)
