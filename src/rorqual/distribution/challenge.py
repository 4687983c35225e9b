"""WWW-Authenticate: which ways of authenticating a registry offers. Source: RFC 9110 section 11.6.1, RFC 6750."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_SCHEME = re.compile(r"\s*,?\s*([A-Za-z][A-Za-z0-9-]*)(?:\s+|\s*$|\s*,)")
_PARAMETER = re.compile(r'\s*,?\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_MAX_LENGTH = 8192


@dataclass(frozen=True, slots=True)
class Challenge:
    """`scheme` in lower case (`bearer`, `basic`); parameters' names too."""

    scheme: str
    parameters: Mapping[str, str]


def parse(headers: Sequence[str]) -> list[Challenge]:
    """The challenges of all WWW-Authenticate headers; what cannot be read is left out."""
    found: list[Challenge] = []
    for header in headers:
        found.extend(_parse_one(header[:_MAX_LENGTH]))
    return found


def _parse_one(header: str) -> list[Challenge]:
    found: list[Challenge] = []
    position = 0
    while match := _SCHEME.match(header, position):
        position = match.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            position = parameter.end()
            quoted = parameter[2]
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else parameter[3]
            parameters.setdefault(parameter[1].lower(), value)
        found.append(Challenge(match[1].lower(), parameters))
    return found
