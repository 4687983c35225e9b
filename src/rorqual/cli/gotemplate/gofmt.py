"""Go's fmt: %v of any value, and Sprintf with verbs, flags, width and precision.

Source: pkg.go.dev/fmt.
"""

from __future__ import annotations

import math

from rorqual.cli.gotemplate.value import NO_VALUE, Number, Object, Struct, type_name
from rorqual.client.values import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def show(value: Any) -> str:
    """%v"""
    if value is None:
        return "<nil>"
    if value is NO_VALUE:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return float_g(value)
    if isinstance(value, Struct):
        return "{" + " ".join(map(show, [*value.values(), *value.omitted.values()])) + "}"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{show(k)}:{show(value[k])}" for k in sort_keys(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(show, value)) + "]"
    if isinstance(value, Object):
        return "{" + " ".join(map(show, value.printed())) + "}"
    return str(value)


def sort_keys(value: dict[Any, Any]) -> list[Any]:
    return sorted(value, key=lambda k: (isinstance(k, str), k))


def float_g(value: float, *, exponent_from: int = 21) -> str:
    """The shortest text of a float that reads back, %v style: an exponent below 1e-4 and from 1e21."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    mantissa, _, exponent = f"{value!r}".partition("e")
    digits, power = _decimal(value)
    if power < -4 or power >= exponent_from:
        sign = "-" if value < 0 else ""
        body = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
        return f"{sign}{body}e{'-' if power < 0 else '+'}{abs(power):02d}"
    if exponent:
        return f"{value:.{max(0, len(digits) - 1 - power)}f}"
    return mantissa.removesuffix(".0")


def _decimal(value: float) -> tuple[str, int]:
    """(significant digits, power of ten of the first)"""
    text = f"{abs(value)!r}"
    mantissa, _, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    power = int(exponent or 0) + len(whole) - 1
    digits = whole + fraction
    stripped = digits.lstrip("0")
    power -= len(digits) - len(stripped)
    return stripped.rstrip("0") or "0", power


class _Spec:
    """One verb's flags, width and precision."""

    __slots__ = ("minus", "plus", "precision", "sharp", "space", "width", "zero")

    def __init__(self) -> None:
        self.minus = self.plus = self.sharp = self.space = self.zero = False
        self.width: int | None = None
        self.precision: int | None = None

    def pad(self, text: str) -> str:
        if self.width is None or len(text) >= self.width:
            return text
        if self.minus:
            return text.ljust(self.width)
        return text.rjust(self.width, "0" if self.zero else " ")

    def pad_number(self, sign: str, digits: str) -> str:
        if self.zero and not self.minus and self.width is not None and self.precision is None:
            digits = digits.rjust(self.width - len(sign), "0")
        text = sign + digits
        if self.width is None or len(text) >= self.width:
            return text
        return text.ljust(self.width) if self.minus else text.rjust(self.width)


def sprintf(format: str, args: Sequence[Any]) -> str:
    """fmt.Sprintf, with its `%!verb(type=value)` texts for what does not fit."""
    out: list[str] = []
    index = position = 0
    size = len(format)
    while position < size:
        percent = format.find("%", position)
        if percent < 0:
            out.append(format[position:])
            break
        out.append(format[position:percent])
        position = percent + 1
        spec = _Spec()
        position = _flags(format, position, spec)
        star_error = ""
        spec.width, position, index, star_error = _size(format, position, args, index, "WIDTH")
        out.append(star_error)
        if spec.width is not None and spec.width < 0:
            spec.minus, spec.zero, spec.width = True, False, -spec.width
        if position < size and format[position] == ".":
            spec.precision, position, index, star_error = _size(format, position + 1, args, index, "PREC")
            out.append(star_error)
            if spec.precision is None:
                spec.precision = 0
        if position >= size:
            out.append("%!(NOVERB)")
            break
        verb = format[position]
        position += 1
        if verb == "%":
            out.append("%")
            continue
        if index >= len(args):
            out.append(f"%!{verb}(MISSING)")
            continue
        out.append(_verb(verb, args[index], spec))
        index += 1
    if index < len(args):
        rest = ", ".join(f"{type_name(a)}={show(a)}" if a is not None else "<nil>" for a in args[index:])
        out.append(f"%!(EXTRA {rest})")
    return "".join(out)


def _flags(format: str, position: int, spec: _Spec) -> int:
    while position < len(format):
        c = format[position]
        if c == "#":
            spec.sharp = True
        elif c == "0":
            spec.zero = True
        elif c == "+":
            spec.plus = True
        elif c == "-":
            spec.minus, spec.zero = True, False
        elif c == " ":
            spec.space = True
        else:
            break
        position += 1
    return position


def _size(format: str, position: int, args: Sequence[Any], index: int, name: str) -> tuple[int | None, int, int, str]:
    if position < len(format) and format[position] == "*":
        if index < len(args) and isinstance(args[index], int) and not isinstance(args[index], bool):
            return args[index], position + 1, index + 1, ""
        return None, position + 1, index + 1, f"%!(BAD{name})"
    start = position
    while position < len(format) and format[position].isascii() and format[position].isdigit():
        position += 1
    return (int(format[start:position]) if position > start else None), position, index, ""


def _verb(verb: str, value: Any, spec: _Spec) -> str:
    if verb == "T":
        return spec.pad(type_name(value))
    if verb == "v":
        if value is None:
            return spec.pad("<nil>")
        if spec.sharp:
            return spec.pad(go_syntax(value))
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return spec.pad(show(value))
        verb = "d" if isinstance(value, int) else "g"
    if isinstance(value, bool):
        return spec.pad("true" if value else "false") if verb == "t" else _bad(verb, value)
    if isinstance(value, int):
        return _integer(verb, value, spec)
    if isinstance(value, float):
        return _float(verb, value, spec)
    if isinstance(value, str):
        return _string(verb, value, spec)
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(_verb(verb, item, spec) for item in value) + "]"
    if isinstance(value, dict):
        body = " ".join(f"{_verb(verb, k, spec)}:{_verb(verb, value[k], spec)}" for k in sort_keys(value))
        return f"map[{body}]"
    if value is None:
        return f"%!{verb}(<nil>)"
    return spec.pad(show(value)) if verb == "s" else _bad(verb, value)


def _bad(verb: str, value: Any) -> str:
    return f"%!{verb}({type_name(value)}={show(value)})"


def _integer(verb: str, value: int, spec: _Spec) -> str:
    if verb == "c":
        return spec.pad(chr(value) if 0 <= value < 0x110000 else "\ufffd")
    if verb == "q":
        return spec.pad(quote(chr(value), single=True))
    if verb == "U":
        return spec.pad(f"U+{value:04X}")
    forms = {"d": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}
    if verb not in forms:
        return _bad(verb, value)
    sign = "-" if value < 0 else "+" if spec.plus else " " if spec.space else ""
    digits = format(abs(value), forms[verb])
    if spec.precision is not None:
        digits = "" if spec.precision == 0 and value == 0 else digits.rjust(spec.precision, "0")
    prefix = ""
    if verb == "O":
        prefix = "0o"
    elif spec.sharp:
        prefix = {"b": "0b", "o": "0", "x": "0x", "X": "0X"}.get(verb, "")
    return spec.pad_number(sign + prefix, digits)


def _float(verb: str, value: float, spec: _Spec) -> str:
    if verb not in "eEfFgG":
        return _bad(verb, value)
    sign = "-" if math.copysign(1, value) < 0 else "+" if spec.plus else " " if spec.space else ""
    magnitude = abs(value)
    if math.isnan(value) or math.isinf(value):
        return spec.pad(float_g(value).removeprefix("+") if not spec.plus else float_g(value))
    if verb in "gG" and spec.precision is None:
        digits = float_g(magnitude)
    else:
        precision = 6 if spec.precision is None else spec.precision
        digits = f"{magnitude:.{precision}{verb}}"
    return spec.pad_number(sign, digits)


def _string(verb: str, value: str, spec: _Spec) -> str:
    if verb in "sv":
        text = value if spec.precision is None else value[: spec.precision]
        return spec.pad(text)
    if verb == "q":
        text = value if spec.precision is None else value[: spec.precision]
        if spec.sharp and "`" not in text and text.isprintable():
            return spec.pad(f"`{text}`")
        return spec.pad(quote(text, ascii_only=spec.plus))
    if verb in "xX":
        data = value.encode("utf-8", "surrogateescape")
        if spec.precision is not None:
            data = data[: spec.precision]
        text = data.hex(" ") if spec.space else data.hex()
        return spec.pad(text.upper() if verb == "X" else text)
    return _bad(verb, value)


def go_syntax(value: Any) -> str:
    """%#v"""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, dict):
        body = ", ".join(f"{go_syntax(k)}:{go_syntax(value[k])}" for k in sort_keys(value))
        return f"map[string]interface {{}}{{{body}}}"
    if isinstance(value, (list, tuple)):
        return "[]interface {}{" + ", ".join(map(go_syntax, value)) + "}"
    return show(value)


def sprint(args: Sequence[Any]) -> str:
    """fmt.Sprint: a space between operands when neither is a string."""
    out: list[str] = []
    previous_string = True
    for i, value in enumerate(args):
        is_string = isinstance(value, str) and not isinstance(value, Number)
        if i and not is_string and not previous_string:
            out.append(" ")
        out.append(show(value))
        previous_string = is_string
    return "".join(out)


def sprintln(args: Sequence[Any]) -> str:
    return " ".join(map(show, args)) + "\n"
