"""The engine's JSON objects as the Go structs that Docker's templates know: Go's field names, nothing for others."""

from __future__ import annotations

from rorqual.cli.gotemplate.value import NilSlice, Object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def struct(
    type_name: str,
    data: Mapping[str, Any],
    *,
    names: Mapping[str, str] | None = None,
    omitted: Mapping[str, Any] | None = None,
) -> Object:
    """An object whose template fields are `data`'s keys, but for `names`: {Go's name: the key in JSON}.

    `omitted` are fields that JSON leaves out when they are empty, as they then are: {name: its empty value}.
    """
    known = dict(names or {})
    renamed = set(known.values())

    def field(name: str) -> Any:
        key = known.get(name, name)
        if key in data and (name in known or name not in renamed):
            return data[key]
        if omitted and name in omitted:
            return omitted[name]
        raise KeyError(name)

    return Rendered(type_name, field, data)


def members(data: Mapping[str, Any], types: Mapping[str, str]) -> dict[str, Any]:
    """`data` with those members that are structs to Go as such, {name: Go's type}; their missing lists are nil."""
    out = dict(data)
    for name, type_name in types.items():
        member = out.get(name)
        if isinstance(member, dict):
            out[name] = struct(type_name, {key: NilSlice() if v is None else v for key, v in member.items()})
    return out


class Rendered(Object):
    """A struct that `json` shows as the JSON it came from."""

    __slots__ = ("_data",)

    def __init__(self, type_name: str, field: Any, data: Mapping[str, Any]) -> None:
        super().__init__(type_name, field, tuple(data))
        self._data = data

    def as_dict(self) -> dict[str, Any]:
        return dict(self._data)


class GoStruct(Object):
    """A struct with fields of its own, which `json` shows as `data`.

    `promoted` are an embedded struct's fields; `seen_as` is the type that errors name, where an interface holds it.
    """

    __slots__ = ("_data", "_fields")
    marshals = False

    def __init__(
        self,
        type_name: str,
        fields: Mapping[str, Any],
        data: Mapping[str, Any],
        *,
        promoted: Mapping[str, Any] | None = None,
        seen_as: str = "",
    ) -> None:
        super().__init__(type_name, {**(promoted or {}), **fields}.__getitem__, tuple(data))
        self._data = data
        self._fields = fields
        self.seen_as = seen_as or type_name

    def as_dict(self) -> dict[str, Any]:
        return dict(self._data)

    def printed(self) -> list[Any]:
        return list(self._fields.values())
