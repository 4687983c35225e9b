"""Protocol Buffers' wire format for the few messages a shim speaks, over plain classes.

Used by the shim, which must stay small: protobuf's own runtime dirties 4.8 MB and takes 20 ms to import in each process
(docs/adr/0002). Everything else uses protobuf. A message is a class, made by `message`, whose
FIELDS name its wire fields. It is no dataclass: that module and `typing` are 2 MB of the shim's parent.

Source: https://protobuf.dev/programming-guides/encoding/ (varint and length-delimited records; proto3 defaults are
not sent; unknown fields are skipped; the last value of a singular field wins).
"""

from __future__ import annotations

from rorqual import protowire
from rorqual.errdefs import InvalidArgument
from rorqual.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Literal, TypeVar, dataclass_transform

    Scalar = Literal["string", "bytes", "varint", "bool", "map"]
    M = TypeVar("M", bound="Message")
    _Class = TypeVar("_Class")

    @dataclass_transform()
    def message(cls: type[_Class]) -> type[_Class]: ...

else:

    def message(cls):
        """The class again, its annotated members as slots; all have defaults, of which lists and maps are copied."""
        body = dict(cls.__dict__)
        names = tuple(name for name in body.get("__annotations__", ()) if name != "FIELDS")
        defaults = {name: body.pop(name) for name in names}
        for name in ("__dict__", "__weakref__"):
            body.pop(name, None)
        body.update(__slots__=names, __match_args__=names, _defaults=defaults)
        made = type(cls)(cls.__name__, cls.__bases__, body)
        made.__qualname__ = cls.__qualname__
        return made


@record
class Field:
    """One wire field. `map` is map<string, string>; a Message subclass is an embedded message."""

    number: int
    name: str
    kind: Scalar | type[Message]
    repeated: bool = False


class Message:
    """Base of the messages."""

    __slots__ = ()
    FIELDS: ClassVar[tuple[Field, ...]] = ()
    if not TYPE_CHECKING:
        _defaults = {}

        def __init__(self, *values, **named):
            names = self.__match_args__
            if len(values) > len(names):
                raise TypeError(f"{type(self).__qualname__} has {len(names)} fields, not {len(values)}")
            for name, value in zip(names, values, strict=False):
                setattr(self, name, value)
            for name in names[len(values) :]:
                if name in named:
                    setattr(self, name, named.pop(name))
                else:
                    default = self._defaults[name]
                    setattr(self, name, default.copy() if default.__class__ in (list, dict) else default)
            if named:
                raise TypeError(f"{type(self).__qualname__} has no field {next(iter(named))!r}, or got it twice")

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _members(self))

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        members = ", ".join([f"{name}={getattr(self, name)!r}" for name in _members(self)])
        return f"{type(self).__qualname__}({members})"

    def encode(self) -> bytes:
        """The message's wire bytes."""
        out = bytearray()
        for field in self.FIELDS:
            value = getattr(self, field.name)
            if field.kind == "map":
                for key, item in value.items():
                    entry = bytearray()
                    protowire.put_bytes(entry, 1, key.encode())
                    protowire.put_bytes(entry, 2, item.encode())
                    protowire.put_bytes(out, field.number, entry)
            elif field.repeated:
                for item in value:
                    _put(out, field, item)
            elif isinstance(value, Message) or value:
                _put(out, field, value)
        return bytes(out)

    @classmethod
    def decode(cls: type[M], data: bytes | memoryview) -> M:
        """The message in `data`. Raises InvalidArgument for bytes that are no such message."""
        by_number = {f.number: f for f in cls.FIELDS}
        values: dict[str, Any] = {}
        try:
            for number, raw in protowire.records(memoryview(data)):
                if field := by_number.get(number):
                    _take(values, field, raw)
        except (ValueError, IndexError, TypeError) as e:
            raise InvalidArgument(f"{cls.__name__}: malformed message: {e}") from e
        return cls(**values)


def _members(instance: Message) -> tuple[str, ...]:
    names: tuple[str, ...] = instance.__match_args__  # type: ignore[attr-defined]
    return names


def _put(out: bytearray, field: Field, value: Any) -> None:
    kind = field.kind
    if kind == "string":
        protowire.put_bytes(out, field.number, value.encode())
    elif kind == "bytes":
        protowire.put_bytes(out, field.number, value)
    elif kind in ("varint", "bool"):
        protowire.put_number(out, field.number, int(value))
    else:
        protowire.put_bytes(out, field.number, value.encode())


def _varints(data: memoryview) -> Any:
    at = 0
    while at < len(data):
        value, at = protowire.varint(data, at)
        yield value


def _take(values: dict[str, Any], field: Field, raw: Any) -> None:
    kind = field.kind
    if kind == "map":
        entry = {n: bytes(protowire.content(v)).decode() for n, v in protowire.records(protowire.content(raw))}
        values.setdefault(field.name, {})[entry.get(1, "")] = entry.get(2, "")
        return
    value: Any
    if kind == "string":
        value = bytes(protowire.content(raw)).decode()
    elif kind == "bytes":
        value = bytes(protowire.content(raw))
    elif kind == "bool":
        value = bool(raw)
    elif kind == "varint":
        if field.repeated and not isinstance(raw, int):  # packed
            values.setdefault(field.name, []).extend(_varints(raw))
            return
        if not isinstance(raw, int):
            raise ValueError(f"field {field.number} is no varint")
        value = raw
    else:
        value = kind.decode(protowire.content(raw))
    if field.repeated:
        values.setdefault(field.name, []).append(value)
    else:
        values[field.name] = value


@message
class Timestamp(Message):
    """google.protobuf.Timestamp."""

    seconds: int = 0
    nanos: int = 0
    FIELDS = (Field(1, "seconds", "varint"), Field(2, "nanos", "varint"))

    @classmethod
    def from_ns(cls, time_ns: int) -> Timestamp:
        """Of nanoseconds since 1970."""
        return cls(*divmod(time_ns, 1_000_000_000))

    def to_ns(self) -> int:
        """Nanoseconds since 1970."""
        return self.seconds * 1_000_000_000 + self.nanos


@message
class Any_(Message):  # (google.protobuf.Any; the underscore keeps typing.Any free)
    """google.protobuf.Any."""

    type_url: str = ""
    value: bytes = b""
    FIELDS = (Field(1, "type_url", "string"), Field(2, "value", "bytes"))


@message
class Empty(Message):
    """google.protobuf.Empty."""
