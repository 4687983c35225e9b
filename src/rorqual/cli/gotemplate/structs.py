"""The engine's JSON objects as the Go structs that Docker's templates know: Go's field names, nothing for others."""

from __future__ import annotations

from rorqual.cli.gotemplate.value import NilSlice, Object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def struct(
    type_name: str, data: Mapping[str, Any], *, names: Mapping[str, str] | None = None, omitted: tuple[str, ...] = ()
) -> Object:
    """An object whose template fields are `data`'s keys, but for `names`: {Go's name: the key in JSON}.

    `omitted` are fields that JSON leaves out when they are empty: a template may name them all the same.
    """
    known = dict(names or {})
    renamed = set(known.values())

    def field(name: str) -> Any:
        key = known.get(name, name)
        if key in data and (name in known or name not in renamed):
            return data[key]
        if name in omitted:
            return None
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
