"""Values that templates handle, beyond JSON's own, and the questions the language asks of any value."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


class Object:
    """A Go struct with methods: fields by name through a getter that raises KeyError for what is none.

    `json_fields` are the names that `json` shows, in the order given.
    """

    __slots__ = ("_getter", "json_fields", "seen_as", "type_name")
    marshals = True  # it has a MarshalJSON of its own, whose text is escaped for HTML

    def __init__(self, type_name: str, getter: Callable[[str], Any], json_fields: Sequence[str] = ()) -> None:
        self.type_name = type_name
        self.seen_as = type_name  # in errors about its fields
        self._getter = getter
        self.json_fields = json_fields

    def field(self, name: str) -> Any:
        """Raises: KeyError."""
        return self._getter(name)

    def as_dict(self) -> dict[str, Any]:
        return {name: self._getter(name) for name in self.json_fields}

    def printed(self) -> list[Any]:
        """The values that %v prints."""
        return list(self.as_dict().values())


class Struct(dict):  # type: ignore[type-arg]  # dict[str, Any] would import typing with every command
    """A JSON object that is a struct in Go: printed as `{a b}` instead of `map[x:a y:b]`.

    `omitted` are fields that JSON leaves out when they are empty, with the values they then have; `spelt` has Go's
    names of fields that JSON spells otherwise.
    """

    __slots__ = ("omitted", "spelt")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.omitted: dict[str, Any] = {}
        self.spelt: dict[str, str] = {}

    def key(self, name: str) -> str:
        """The JSON's name of the field that is `name` in Go; "" for a name that only JSON has."""
        return self.spelt.get(name) or ("" if name in self.spelt.values() else name)


class NilMap(dict):  # type: ignore[type-arg]  # as above
    """A nil Go map: prints map[], is false, is null in JSON."""

    __slots__ = ()


class NilSlice(list):  # type: ignore[type-arg]  # as above
    """A nil Go slice: prints [], is false, is null in JSON."""

    __slots__ = ()


class Number(str):
    """A JSON number kept as it was written (json.Number)."""

    __slots__ = ()


class _NoValue:
    """What a map gives for a key it has not."""

    __slots__ = ()


NO_VALUE = _NoValue()


def truth(value: Any) -> bool:
    """Go's truth: false for zero, nil, empty string, map and slice; structs are true."""
    if value is None or value is NO_VALUE:
        return False
    if isinstance(value, (Object, Struct)) or callable(value):
        return True
    return bool(value)


def indirect_kind(value: Any) -> str:
    """The kind of a basic value as comparison sees it: bool int float string, or ""."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    return "string" if isinstance(value, str) else ""


def type_name(value: Any) -> str:
    """The Go type that a value stands for, as error texts and %T show it."""
    if value is None or value is NO_VALUE:
        return "<nil>"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float64"
    if isinstance(value, Number):
        return "json.Number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, Object):
        return value.type_name
    if isinstance(value, dict):
        return "map[string]interface {}"
    if isinstance(value, (list, tuple)):
        return "[]interface {}"
    if callable(value):
        return "func"
    return type(value).__name__
