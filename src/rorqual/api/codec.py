"""JSON to frozen dataclasses and back, by field metadata: the one codec of the Engine API's bodies.

A field is declared with `wire("JsonName", default, omit=…)`. Decoding follows Go's encoding/json, which Docker's
clients were written against: null leaves the default, unknown keys are ignored, a key in another case still matches,
and a wrong type names its field. Each class is compiled once, on first use, to a table of decoders and encoders.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from rorqual.errdefs import InvalidArgument
from rorqual.oci import jsontext

T = TypeVar("T")
Decoder = Callable[[Any, str], Any]
Encoder = Callable[[Any], Any]

_GO_NAMES = {str: "string", dict: "object", list: "array", bool: "bool", int: "number", float: "number"}


def wire(name: str, default: Any = dataclasses.MISSING, *, omit: bool = False, text: bool = False) -> Any:
    """A dataclass field called `name` on the wire.

    `omit` leaves the key out while the value is empty (Go's omitempty). `text` also accepts one string where an array
    of strings is declared (Docker's StrSlice). A mutable default is made anew for each object.
    """
    metadata = {"wire": name, "omit": omit, "text": text}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata)
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def from_json(cls: type[T], data: Any, where: str = "") -> T:
    """`data` (parsed JSON) as a `cls`. Raises: InvalidArgument naming the field whose type is wrong."""
    decoded: T = _decoder_of(cls)(data, where or cls.__name__)
    return decoded


def from_bytes(cls: type[T], raw: bytes | str) -> T:
    """The JSON text `raw` as a `cls`. Raises: InvalidArgument."""
    return from_json(cls, loads(raw))


def loads(raw: bytes | str) -> Any:
    """Parsed JSON. Raises: InvalidArgument with the texts of Docker's httputils.ReadJSON."""
    if not raw.strip():
        raise InvalidArgument("invalid JSON: got EOF while reading request body")
    try:
        value = json.loads(raw)
        return jsontext.with_characters(value) if jsontext.may_have_halves(raw) else value
    except json.JSONDecodeError as e:
        if e.msg == "Extra data":
            raise InvalidArgument("unexpected content after JSON") from e
        raise InvalidArgument(f"invalid JSON: {e.msg} at offset {e.pos}") from e
    except (ValueError, RecursionError) as e:
        raise InvalidArgument(f"invalid JSON: {e}") from e


def to_json(value: Any) -> Any:
    """`value` (a wire dataclass, or containers of them) as what json.dumps takes."""
    cls = type(value)
    if cls in (str, int, bool, float, type(None)):
        return value
    if dataclasses.is_dataclass(cls):
        return _encoder_of(cls)(value)
    if isinstance(value, Mapping):
        return {k: to_json(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_json(v) for v in value]
    return value


_encode_text = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def to_bytes(value: Any) -> bytes:
    """`value` as compact JSON text."""
    text = _encode_text(to_json(value))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return jsontext.whole_text(text).encode()


_decoders: dict[Any, Decoder] = {}
_encoders: dict[type, Encoder] = {}


def _wrong(value: Any, where: str, wanted: str) -> InvalidArgument:
    got = _GO_NAMES.get(type(value), type(value).__name__)
    return InvalidArgument(f"invalid JSON: json: cannot unmarshal {got} into Go struct field {where} of type {wanted}")


def _decode_bool(value: Any, where: str) -> bool:
    if value is True or value is False:
        return bool(value)
    raise _wrong(value, where, "bool")


def _decode_int(value: Any, where: str) -> int:
    if type(value) is not int:
        raise _wrong(value, where, "int64")
    if not -(1 << 63) <= value < 1 << 64:
        raise InvalidArgument(
            f"invalid JSON: json: cannot unmarshal number {value} into Go struct field {where} of type int64"
        )
    return value


def _decode_float(value: Any, where: str) -> float:
    if type(value) is not int and type(value) is not float:
        raise _wrong(value, where, "float64")
    return float(value)


def _decode_str(value: Any, where: str) -> str:
    if type(value) is not str:
        raise _wrong(value, where, "string")
    return value


def _decode_any(value: Any, where: str) -> Any:
    return value


_SCALARS: dict[Any, Decoder] = {
    bool: _decode_bool,
    int: _decode_int,
    float: _decode_float,
    str: _decode_str,
    Any: _decode_any,
    object: _decode_any,
}


_GO_TYPES: dict[Any, str] = {
    bool: "bool", int: "int64", float: "float64", str: "string", Any: "interface {}", object: "interface {}",
}  # fmt: skip


def _decoder_of(hint: Any) -> Decoder:
    found = _decoders.get(hint)
    if found is None:
        found = _decoders[hint] = _SCALARS.get(hint) or _compile_decoder(hint)
    return found


def _compile_decoder(hint: Any) -> Decoder:
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [a for a in args if a is not type(None)]
        return _optional(_decoder_of(inner[0]))
    if origin is tuple:
        return _array(_decoder_of(args[0]), _go_type(hint))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _map(_decoder_of(args[1]), _go_type(hint))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _struct(hint)
    raise TypeError(f"no wire form for {hint!r}")


def _go_type(hint: Any) -> str:
    """What Go calls the type of a field: tuple[str, ...] is []string."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return "*" + _go_type(args[0])
    if origin is tuple:
        return "[]" + _go_type(args[0])
    if origin is not None:
        return "map[string]" + _go_type(args[1])
    return _GO_TYPES.get(hint) or str(hint.__name__)


def _optional(inner: Decoder) -> Decoder:
    return lambda value, where: None if value is None else inner(value, where)


def _array(inner: Decoder, kind: str) -> Decoder:
    def decode(value: Any, where: str) -> tuple[Any, ...]:
        if type(value) is not list:
            raise _wrong(value, where, kind)
        return tuple([inner(v, where) for v in value])

    return decode


def _text_or_array(inner: Decoder) -> Decoder:
    return lambda value, where: (value,) if type(value) is str else inner(value, where)


def _map(inner: Decoder, kind: str) -> Decoder:
    def decode(value: Any, where: str) -> dict[str, Any]:
        if type(value) is not dict:
            raise _wrong(value, where, kind)
        return {k: inner(v, where) for k, v in value.items()}

    return decode


def _struct(cls: type) -> Decoder:
    hints = typing.get_type_hints(cls)
    table: dict[str, tuple[str, Decoder, str]] = {}
    folded: dict[str, str] = {}
    required = False
    for f in dataclasses.fields(cls):
        if "wire" not in f.metadata:
            continue
        name = f.metadata["wire"]
        decoder = _decoder_of(hints[f.name])
        if f.metadata["text"]:
            decoder = _text_or_array(decoder)
        table[name] = (f.name, decoder, f"{cls.__name__}.{name}")
        folded[name.lower()] = name
        required = required or (f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING)

    def decode(value: Any, where: str) -> Any:
        if type(value) is not dict:
            raise _wrong(value, where, cls.__name__)
        given: dict[str, Any] = {}
        for key, item in value.items():
            if item is None:
                continue
            entry = table.get(key)
            if entry is None:
                known = folded.get(key.lower())
                if known is None:
                    continue
                entry = table[known]
            attr, decoder, path = entry
            given[attr] = decoder(item, path)
        if not required:
            return cls(**given)
        try:
            return cls(**given)
        except TypeError as e:
            raise InvalidArgument(f"invalid JSON: {where}: {e}") from e

    return decode


def _encoder_of(cls: type) -> Encoder:
    found = _encoders.get(cls)
    if found is None:
        found = _encoders[cls] = _compile_encoder(cls)
    return found


_POINTERS = frozenset({str | None, int | None, bool | None})
_PLAIN = frozenset({str, int, bool, float}) | _POINTERS


def _compile_encoder(cls: type) -> Encoder:
    hints = typing.get_type_hints(cls)
    # A pointer to a scalar is left out only when nil, as in Go: `Init: false` is said.
    rows = [
        (f.metadata["wire"], f.name, hints[f.name] in _PLAIN, f.metadata["omit"], hints[f.name] in _POINTERS)
        for f in dataclasses.fields(cls)
        if "wire" in f.metadata
    ]

    def encode(value: Any) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, attr, plain, omit, pointer in rows:
            item = getattr(value, attr)
            if omit and not item and (item is None or not pointer):
                continue
            out[name] = item if plain else to_json(item)
        return out

    return encode
