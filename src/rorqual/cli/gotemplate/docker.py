"""The functions that Docker's command line adds to templates. Source: docker/cli's formatting reference."""

from __future__ import annotations

import json as _json

from rorqual.cli.gotemplate import gofmt
from rorqual.cli.gotemplate.value import NO_VALUE, NilMap, NilSlice, Number, Object, Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def to_json(value: Any, *, escape_html: bool = False) -> str:
    """`value` as Go's encoding/json writes it: maps by sorted key, structs in their order, no spaces."""
    out = _encode(value)
    if escape_html:
        out = out.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return out


def _encode(value: Any) -> str:
    if value is None or value is NO_VALUE or isinstance(value, (NilMap, NilSlice)):
        return "null"
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, str):
        text = _json.dumps(value, ensure_ascii=False)
        return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    if isinstance(value, float):
        return gofmt.float_g(value)
    if isinstance(value, (bool, int)):
        return _json.dumps(value)
    if isinstance(value, Object):
        body = ",".join(f"{_encode(k)}:{_encode(v)}" for k, v in value.as_dict().items())
        if value.marshals:
            body = body.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
        return "{" + body + "}"
    if isinstance(value, dict):
        # A JSON object that came from the engine is in the engine's order, which is Go's.
        keys = list(value) if isinstance(value, Struct) else gofmt.sort_keys(value)
        return "{" + ",".join(f"{_encode(str(k))}:{_encode(value[k])}" for k in keys) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_encode, value)) + "]"
    return _json.dumps(str(value))


def _json_function(value: Any) -> str:
    return to_json(value)


# The annotations of these parameters are what the executor checks, with Go's error texts.


def _join(items: list[Any], separator: str) -> str:
    return separator.join(map(gofmt.show, items))


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


def _title(text: str) -> str:
    out = []
    previous = " "
    for c in text:
        out.append(c.upper() if not (previous.isalnum() or previous in "_'") else c)
        previous = c
    return "".join(out)


def _lower(text: str) -> str:
    return text.lower()


def _upper(text: str) -> str:
    return text.upper()


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def _truncate(text: str, size: int) -> str:
    return text[:size]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": _json_function,
    "split": _split,
    "join": _join,
    "title": _title,
    "lower": _lower,
    "upper": _upper,
    "pad": _pad,
    "truncate": _truncate,
}


def _header(text: Any, *ignored: Any) -> Any:
    return text


# The same functions for the line of headers: what changes values must leave a header's text alone.
HEADER_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **FUNCTIONS,
    "json": _header,
    "title": _header,
    "lower": _header,
    "upper": _header,
    "truncate": _header,
    "split": _header,
    "join": _header,
}


def unescape(format: str) -> str:
    """\\t and \\n as shells pass them to --format."""
    return format.replace("\\t", "\t").replace("\\n", "\n")
