"""Go's predefined functions. `and` and `or` are the executor's, for they evaluate lazily; their entries name them."""

from __future__ import annotations

from rorqual.cli.gotemplate import gofmt
from rorqual.cli.gotemplate.execute import FunctionError
from rorqual.cli.gotemplate.value import NO_VALUE, Number, Struct, indirect_kind, truth, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _and(first: Any, *rest: Any) -> Any:
    return next((v for v in (first, *rest) if not truth(v)), (first, *rest)[-1])


def _or(first: Any, *rest: Any) -> Any:
    return next((v for v in (first, *rest) if truth(v)), (first, *rest)[-1])


def _not(value: Any) -> bool:
    return not truth(value)


def _len(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, (list, tuple, dict)) and not isinstance(value, Struct):
        return len(value)
    if value is None or value is NO_VALUE:
        raise FunctionError("len of nil pointer")
    raise FunctionError(f"len of type {type_name(value)}")


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is None or value is NO_VALUE:
            raise FunctionError("index of untyped nil")
        if isinstance(value, dict):
            if not isinstance(key, str):
                raise FunctionError(f"value has type {type_name(key)}; should be string")
            value = value.get(key, NO_VALUE)
        elif isinstance(value, (list, tuple, str)):
            if isinstance(key, bool) or not isinstance(key, int):
                if key is None:
                    raise FunctionError("cannot index slice/array with nil")
                raise FunctionError(f"cannot index slice/array with type {type_name(key)}")
            data = value.encode() if isinstance(value, str) else value
            if key == len(data):  # Go's check lets it pass, and reflect then refuses it
                raise FunctionError(f"reflect: {'string' if isinstance(value, str) else 'slice'} index out of range")
            if not 0 <= key < len(data):
                raise FunctionError(f"index out of range: {key}")
            value = data[key]
        else:
            raise FunctionError(f"can't index item of type {type_name(value).lstrip('*')}")
    return value


def _slice(value: Any, *bounds: Any) -> Any:
    if len(bounds) > 3:
        raise FunctionError(f"too many slice indexes: {len(bounds)}")
    if not isinstance(value, (list, tuple, str)):
        if value is None:
            raise FunctionError("slice of untyped nil")
        raise FunctionError(f"can't slice item of type {type_name(value)}")
    if isinstance(value, str) and len(bounds) == 3:
        raise FunctionError("cannot 3-index slice a string")
    data = value.encode() if isinstance(value, str) else value
    for bound in bounds:
        if isinstance(bound, bool) or not isinstance(bound, int):
            raise FunctionError(f"cannot index slice/array with type {type_name(bound)}")
        if not 0 <= bound <= len(data):
            raise FunctionError(f"index out of range: {bound}")
    low = bounds[0] if bounds else 0
    high = bounds[1] if len(bounds) > 1 else len(data)
    if low > high:
        raise FunctionError(f"invalid slice index: {low} > {high}")
    part = data[low:high]
    return part.decode("utf-8", "surrogateescape") if isinstance(part, bytes) else part


def _print(*args: Any) -> str:
    return gofmt.sprint(args)


def _printf(format: str, *args: Any) -> str:
    return gofmt.sprintf(format, args)


def _println(*args: Any) -> str:
    return gofmt.sprintln(args)


def _text(args: tuple[Any, ...]) -> str:
    return args[0] if len(args) == 1 and isinstance(args[0], str) else gofmt.sprint(args)


_HTML = {"\x00": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"}
_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}


def _html(*args: Any) -> str:
    return "".join(_HTML.get(c, c) for c in _text(args))


def _js(*args: Any) -> str:
    out = []
    for c in _text(args):
        if c in _JS:
            out.append(_JS[c])
        elif ord(c) < 0x20 or (ord(c) > 0x7F and not c.isprintable()):
            out.append(f"\\u{ord(c):04X}")
        else:
            out.append(c)
    return "".join(out)


_UNRESERVED = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-~")


def _urlquery(*args: Any) -> str:
    data = _text(args).encode("utf-8", "surrogateescape")
    return "".join(chr(b) if b in _UNRESERVED else "+" if b == 0x20 else f"%{b:02X}" for b in data)


def _call(function: Any, *args: Any) -> Any:
    if function is None:
        raise FunctionError("call of nil")
    if not callable(function):
        raise FunctionError(f"non-function of type {type_name(function)}")
    return function(*args)


def _comparable(value: Any) -> Any:
    return str(value) if isinstance(value, Number) else value


def _eq(first: Any, *rest: Any) -> bool:
    if not rest:
        raise FunctionError("missing argument for comparison")
    kind = indirect_kind(first)
    for other in rest:
        other_kind = indirect_kind(other)
        if not kind and isinstance(first, (dict, list)):
            raise FunctionError("non-comparable type " + f"{gofmt.show(first)}: {type_name(first)}")
        if kind and other_kind and kind != other_kind:
            raise FunctionError("incompatible types for comparison")
        if _comparable(first) == _comparable(other) and kind == other_kind:
            return True
    return False


def _ne(first: Any, second: Any) -> bool:
    return not _eq(first, second)


def _lt(first: Any, second: Any) -> bool:
    kind, other = indirect_kind(first), indirect_kind(second)
    if not kind or not other:
        raise FunctionError("invalid type for comparison")
    if kind != other:
        raise FunctionError("incompatible types for comparison")
    if kind == "bool":
        raise FunctionError("invalid type for comparison")
    less: bool = first < second
    return less


def _le(first: Any, second: Any) -> bool:
    return _lt(first, second) or _eq(first, second)


def _gt(first: Any, second: Any) -> bool:
    return not _le(first, second)


def _ge(first: Any, second: Any) -> bool:
    return not _lt(first, second)


BUILTINS: dict[str, Callable[..., Any]] = {
    "and": _and,
    "call": _call,
    "eq": _eq,
    "ge": _ge,
    "gt": _gt,
    "html": _html,
    "index": _index,
    "js": _js,
    "le": _le,
    "len": _len,
    "lt": _lt,
    "ne": _ne,
    "not": _not,
    "or": _or,
    "print": _print,
    "printf": _printf,
    "println": _println,
    "slice": _slice,
    "urlquery": _urlquery,
}
