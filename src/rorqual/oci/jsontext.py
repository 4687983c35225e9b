"""JSON by CPython's C scanner and encoder alone: the `json` package imports `re` and `enum`, 6 ms for a short command.

Whatever is not plain good JSON goes to `json`, for its errors. An interpreter without `_json` uses `json` for all.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:
    import _json
except ImportError:
    _json = None  # type: ignore[assignment]

_BLANKS = " \t\n\r"


class _Settings:
    """What `json.JSONDecoder` is to the scanner."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = None


def loads(data: bytes | str) -> Any:
    """Raises: ValueError (json.JSONDecodeError) with the place; RecursionError."""
    if _json is not None:
        try:
            text = (data if isinstance(data, str) else str(data, "utf-8")).strip(_BLANKS)
            value, end = _json.make_scanner(_Settings)(text, 0)  # type: ignore[arg-type]
            if end == len(text):
                return value
        except (ValueError, StopIteration, TypeError):  # TypeError: NaN, which `parse_constant` would make
            pass
    import json

    return json.loads(data)


def scan(text: str, start: int) -> tuple[Any, int]:
    """The value that begins at `start`, and where it ends. Raises: ValueError; RecursionError."""
    if _json is not None:
        try:
            return _json.make_scanner(_Settings)(text, start)  # type: ignore[arg-type]
        except (ValueError, StopIteration, TypeError):
            pass
    import json

    return json.JSONDecoder().raw_decode(text, start)


def dumps(value: Any) -> str:
    """Without blanks, and with all characters as they are."""
    if _json is None:
        import json

        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    encoder = _json.make_encoder(None, _refuse, _json.encode_basestring, None, ":", ",", False, False, False)
    return "".join(encoder(value, 0))


def dumps_indented(value: Any, indent: str, level: str = "\n") -> str:
    """As a person reads it; the members of objects and arrays a line each."""
    if not value or not isinstance(value, dict | list):
        return dumps(value)
    inner = level + indent
    if isinstance(value, dict):
        lines = [f"{dumps(key)}: {dumps_indented(member, indent, inner)}" for key, member in value.items()]
        return "{" + inner + ("," + inner).join(lines) + level + "}"
    return "[" + inner + ("," + inner).join([dumps_indented(member, indent, inner) for member in value]) + level + "]"


def _refuse(value: object) -> None:
    raise TypeError(f"{type(value).__name__} is no JSON value")


def may_have_halves(raw: bytes | str) -> bool:
    """Whether a string in the text could hold half of a surrogate pair, which is no character: none can encode it."""
    if isinstance(raw, str):
        return "\\u" in raw or not raw.isascii()
    return b"\\ud" in raw or b"\\uD" in raw or b"\xed" in raw


def with_characters(value: Any) -> Any:
    """U+FFFD for each half in a parsed value, as Go's decoder has it. Raises: RecursionError."""
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, list):
        return [with_characters(part) for part in value]
    if isinstance(value, dict):
        return {whole_text(key): with_characters(part) for key, part in value.items()}
    return value


def whole_text(text: str) -> str:
    """`text` with U+FFFD for what is no character: halves of pairs, bytes of file names that are no UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
