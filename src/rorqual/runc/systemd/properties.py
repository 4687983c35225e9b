"""Limits as properties of a unit: what systemd itself would write again when it is reloaded.

Not all limits have a property. So what is written to the group's files is decided first, as without systemd, and each
file that has a property is told to systemd too; the files are written after that all the same.

Source: systemd.resource-control(5); org.freedesktop.systemd1(5); runc's docs/systemd.md for annotations.
"""

from __future__ import annotations

from rorqual.errdefs import InvalidArgument
from rorqual.oci.runtime import DeviceRule
from rorqual.runc.cgroups.settings import Writes
from rorqual.runc.systemd.message import Variant

Properties = list[tuple[str, Variant]]

_INFINITY = 2**64 - 1
_PERIOD_US = 100000
_PERCENT_US = 10000  # systemd keeps a quota in hundredths of a second's time
_CPUSET_VERSION, _PERIOD_VERSION, _IDLE_VERSION = 244, 242, 252

_NUMBERS = {
    "memory.max": "MemoryMax",
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax",
    "memory.limit_in_bytes": "MemoryLimit",
    "pids.max": "TasksMax",
    "cpu.weight": "CPUWeight",
    "cpu.shares": "CPUShares",
    "io.weight": "IOWeight",
    "blkio.weight": "BlockIOWeight",
    "blkio.bfq.weight": "BlockIOWeight",
}
_MASKS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}


def limits(writes: Writes, version: int) -> Properties:
    """Of what is going to be written to the group. `version`: systemd's. Raises: InvalidArgument of a bad value."""
    found: Properties = []
    values = {write.file: write.value for write in writes}
    for file, value in values.items():
        if file in _NUMBERS:
            found.append((_NUMBERS[file], Variant("t", _number(file, value))))
        elif file in _MASKS and version >= _CPUSET_VERSION and value:
            found.append((_MASKS[file], Variant("ay", _mask(file, value))))
        elif file == "cpu.max":
            found += _quota(value, version)
        elif file == "cpu.idle" and value.strip() == "1" and version >= _IDLE_VERSION:
            found.append(("CPUWeight", Variant("t", 0)))
    if "cpu.cfs_quota_us" in values or "cpu.cfs_period_us" in values:
        quota, period = values.get("cpu.cfs_quota_us", "-1"), values.get("cpu.cfs_period_us", _PERIOD_US)
        found += _quota(f"{'max' if quota.startswith('-') else quota} {period}", version)
    if ("CPUWeight", Variant("t", 0)) in found:  # an idle group has no weight of its own
        found = [p for p in found if p[0] != "CPUWeight" or p[1].value == 0]
    return found


def _number(file: str, value: str) -> int:
    if value in ("max", "-1"):
        return _INFINITY
    try:
        return int(value.removeprefix("default "))
    except ValueError:
        raise InvalidArgument(f"invalid config: linux.resources: {file} cannot be {value!r}") from None


def _quota(value: str, version: int) -> Properties:
    """Of cpu.max's `QUOTA PERIOD`: time a second, and the period where systemd knows it."""
    quota, _, period_text = value.partition(" ")
    try:
        period = int(period_text or _PERIOD_US)
        a_second = _INFINITY if quota == "max" else -(-int(quota) * 1000000 // period)
    except (ValueError, ZeroDivisionError):
        raise InvalidArgument(f"invalid config: linux.resources: cpu.max cannot be {value!r}") from None
    if a_second != _INFINITY:
        a_second = -(-a_second // _PERCENT_US) * _PERCENT_US
    found = [("CPUQuotaPerSecUSec", Variant("t", a_second))]
    if version >= _PERIOD_VERSION:
        found.append(("CPUQuotaPeriodUSec", Variant("t", period)))
    return found


_BIT_MAX = 8191  # the kernel's largest NR_CPUS


def _mask(file: str, value: str) -> list[int]:
    """`0-2,8` as bytes, the lowest bit first: [7, 1]. Raises: InvalidArgument."""
    bits = 0
    try:
        for part in value.split(","):
            low, _, high = part.strip().partition("-")
            first, last = int(low), int(high or low)
            if not 0 <= first <= last <= _BIT_MAX:
                raise ValueError(part)
            bits |= (1 << last + 1) - (1 << first)
    except ValueError:
        raise InvalidArgument(f"invalid config: linux.resources.cpu: {file} cannot be {value!r}") from None
    return list(bits.to_bytes((bits.bit_length() + 7) // 8, "little"))


def devices(rules: tuple[DeviceRule, ...], names: dict[tuple[str, int], str]) -> Properties:
    """The devices that a v1 group's rules allow, which systemd writes again when it is reloaded. `names`: of devices by
    kind ("c", "b") and major number, from /proc/devices.

    A reload between the two has the devices refused that no property can name. On v2 systemd's filter would be one more
    beside the container's own, which no reload removes.
    """
    allowed: dict[str, str] = {}
    for rule in rules:
        if (rule.type or "a") == "a":
            allowed.clear()
            if rule.allow:
                return [("DevicePolicy", Variant("s", "auto"))]
            continue
        name = _device(rule, names)
        if not name:
            continue
        if rule.allow:
            allowed[name] = "".join(sorted({*allowed.get(name, ""), *(rule.access or "rwm")}))
        else:
            left = "".join(letter for letter in allowed.pop(name, "") if letter not in (rule.access or "rwm"))
            allowed.update({name: left} if left else {})
    entries = list(allowed.items())
    return [("DevicePolicy", Variant("s", "strict")), ("DeviceAllow", Variant("a(ss)", entries))]


def _device(rule: DeviceRule, names: dict[tuple[str, int], str]) -> str:
    """As DeviceAllow= names it; "" for what it cannot name (a minor number of every major one)."""
    kind = "block" if rule.type == "b" else "char"
    major = -1 if rule.major is None else rule.major
    minor = -1 if rule.minor is None else rule.minor
    if major < 0:
        return f"{kind}-*" if minor < 0 else ""
    if minor >= 0:
        return f"/dev/{kind}/{major}:{minor}"
    known = names.get((rule.type or "c", major), "")
    return f"{kind}-{known}" if known else ""


_ANNOTATION = "org.systemd.property."


def annotated(annotations: dict[str, str]) -> Properties:
    """Properties that the container's annotations ask for: `org.systemd.property.TimeoutStopUSec: uint64 5000000`.

    Raises: InvalidArgument.
    """
    found: Properties = []
    for key, text in annotations.items():
        if not key.startswith(_ANNOTATION):
            continue
        name = key.removeprefix(_ANNOTATION)
        if len(name) < 3 or not name.isascii() or not name.isalpha():
            raise InvalidArgument(f"annotation {key} name incorrect: {name!r} is not a property's name")
        found.append(_annotation(key, name, text.strip()))
    return found


_KEYWORDS = {"byte": "y", "boolean": "b", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x"}
_KEYWORDS |= {"uint64": "t", "double": "d", "string": "s", "objectpath": "o"}


def _annotation(key: str, name: str, text: str) -> tuple[str, Variant]:
    """A value in GVariant's text format: a number is an int32 unless its type precedes it. Times are told in seconds
    too (`Sec`), though the manager knows them in microseconds only."""
    word, _, rest = text.partition(" ")
    code, literal = (_KEYWORDS[word], rest.strip()) if word in _KEYWORDS else ("", text)
    try:
        value = _literal(literal)
        if not code:
            code = {bool: "b", str: "s", list: "as", float: "d"}.get(type(value), "i")
        if name.endswith("Sec") and not name.endswith("USec") and isinstance(value, (int, float)):
            name, code, value = name.removesuffix("Sec") + "USec", "t", int(value * 1000000)
        variant = Variant(code, value)
        _check(variant)
    except (ValueError, TypeError) as e:
        raise InvalidArgument(f"annotation {key}={text} value parse error: {e}") from None
    return name, variant


def _literal(text: str) -> bool | int | float | str | list[str]:
    if text in ("true", "false"):
        return text == "true"
    if text.startswith("[") and text.endswith("]"):
        return [_quoted(part.strip()) for part in text[1:-1].split(",") if part.strip()]
    if text[:1] in ("'", '"'):
        return _quoted(text)
    return float(text) if "." in text else int(text, 0)


def _quoted(text: str) -> str:
    if len(text) < 2 or text[0] not in "'\"" or text[-1] != text[0]:
        raise ValueError(f"{text} is not a string")
    return text[1:-1]


def _check(variant: Variant) -> None:
    """Raises: ValueError, TypeError of a value that its type does not hold."""
    from struct import error

    from rorqual.runc.systemd import message

    try:
        message.encode("v", [variant])
    except error as e:
        raise ValueError(str(e)) from None
    if isinstance(variant.value, str) != (variant.signature in "so"):
        raise TypeError(f"{variant.value!r} is not of the type {variant.signature}")
