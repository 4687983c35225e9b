"""Frozen value classes with slots: what `dataclass(frozen=True, slots=True)` makes, at a tenth of its cost.

A dataclass generates and compiles source for each method of each class, and its module imports half of the library:
60 classes are 30 ms, of which a runtime that lives for 40 ms would notice most. Here all classes share their methods.
`dataclasses.replace`, `fields` and `asdict` work on them, as does `match`; defaults must be immutable.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import replace as replace
    from typing import Any, TypeVar, dataclass_transform

    _Class = TypeVar("_Class")

    @dataclass_transform(frozen_default=True)
    def record(cls: type[_Class]) -> type[_Class]: ...

else:

    def record(cls):
        """The class again, with its annotated members as slots and the methods of a frozen dataclass."""
        body = dict(cls.__dict__)
        names = tuple(body.get("__annotations__", ()))
        defaults = {name: body.pop(name) for name in names if name in body}
        for name in ("__dict__", "__weakref__"):
            body.pop(name, None)
        body.update(_METHODS, __slots__=names, __match_args__=names, _record_defaults=defaults)
        made = type(cls)(cls.__name__, cls.__bases__, body)
        made.__qualname__ = cls.__qualname__
        return made

    def replace(instance, /, **changes):
        """A copy with these members changed. Raises: TypeError of a member that the class lacks."""
        for name in instance.__match_args__:
            if name not in changes:
                changes[name] = getattr(instance, name)
        return instance.__class__(**changes)


_set = object.__setattr__


def _init(self: Any, *values: Any, **named: Any) -> None:
    names = self.__match_args__
    if len(values) > len(names):
        raise TypeError(f"{type(self).__qualname__} takes {len(names)} members, not {len(values)}")
    for name, value in zip(names, values, strict=False):
        _set(self, name, value)
    defaults = self._record_defaults
    for name in names[len(values) :]:
        if name in named:
            _set(self, name, named.pop(name))
        elif name in defaults:
            _set(self, name, defaults[name])
        else:
            raise TypeError(f"{type(self).__qualname__} lacks its member {name!r}")
    if named:
        raise TypeError(f"{type(self).__qualname__} has no member {next(iter(named))!r}, or got it twice")


def _values(self: Any) -> tuple[Any, ...]:
    return tuple([getattr(self, name) for name in self.__match_args__])


def _equal(self: Any, other: Any) -> Any:
    return _values(self) == _values(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _show(self: Any) -> str:
    members = ", ".join([f"{name}={getattr(self, name)!r}" for name in self.__match_args__])
    return f"{type(self).__qualname__}({members})"


def _refuse(self: Any, name: str, *value: Any) -> None:
    raise AttributeError(f"{type(self).__qualname__}.{name}: a record does not change")


def _reduce(self: Any) -> tuple[type, tuple[Any, ...]]:
    return type(self), _values(self)


class _DataclassFields:
    """What the functions of `dataclasses` look for, made when they do."""

    def __get__(self, _instance: Any, owner: Any) -> dict[str, Any]:
        import dataclasses

        given = owner._record_defaults
        made = [
            (name, kind, dataclasses.field(default=given[name]) if name in given else dataclasses.field())
            for name, kind in owner.__annotations__.items()
        ]
        return dict(vars(dataclasses.make_dataclass(owner.__name__, made))["__dataclass_fields__"])


_METHODS = {
    "__init__": _init,
    "__eq__": _equal,
    "__hash__": _hash,
    "__repr__": _show,
    "__setattr__": _refuse,
    "__delattr__": _refuse,
    "__reduce__": _reduce,
    "__dataclass_fields__": _DataclassFields(),
}
