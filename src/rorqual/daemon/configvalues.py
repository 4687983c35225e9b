"""How a directive's text or JSON becomes its value. Source: dockerd(8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rorqual.errdefs import InvalidArgument


@dataclass(frozen=True, slots=True)
class RuntimeBinary:
    """An OCI runtime: path "" is the built-in one."""

    path: str = ""
    args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Option:
    """A directive: its attribute, its key in daemon.json, its flags, and how text becomes a value."""

    attr: str
    key: str
    flags: tuple[str, ...]
    kind: str  # text, bool, int, list, map, path, size, runtimes, ulimits, pools, objects (in the file only)
    help: str


def from_flag(option: Option, texts: list[str]) -> Any:
    """The value of a flag that was given these times; of most kinds the last counts. Raises: InvalidArgument."""
    value = texts[-1]
    match option.kind:
        case "bool":
            return value == "true"
        case "int":
            return _int(option.key, value)
        case "path":
            return Path(value)
        case "size":
            return parse_size(option.key, value)
        case "list":
            return tuple(texts)
        case "map":
            return dict(pair(option.key, item) for item in texts)
        case "runtimes":
            return {name: RuntimeBinary(path) for name, path in (pair(option.key, item) for item in texts)}
        case "ulimits":
            return dict(_ulimit(item) for item in texts)
        case "pools":
            return tuple(_pool(dict(pair(option.key, p) for p in item.split(","))) for item in texts)
    return value


def from_file(option: Option, value: Any) -> Any:
    """The value of a key of daemon.json. Raises: InvalidArgument."""
    wanted: dict[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "size": (int, str), "list": (list,)}
    wanted |= {"map": (dict,), "runtimes": (dict,), "ulimits": (dict,), "pools": (list,), "objects": (list,)}
    fits = isinstance(value, wanted.get(option.kind, (str,)))
    if not fits:
        raise InvalidArgument(f"configuration key {option.key}: wrong type {type(value).__name__}")
    match option.kind:
        case "path":
            return Path(value)
        case "size":
            return parse_size(option.key, str(value))
        case "list":
            return tuple(str(item) for item in value)
        case "map":
            return {str(k): str(v) for k, v in value.items()}
        case "runtimes":
            return {k: RuntimeBinary(v.get("path", ""), tuple(v.get("runtimeArgs") or ())) for k, v in value.items()}
        case "ulimits":
            return {k: {"soft": int(v["Soft"]), "hard": int(v["Hard"])} for k, v in value.items()}
        case "pools":
            return tuple(_pool(item) for item in value)
        case "objects":
            if not all(isinstance(item, dict) for item in value):
                raise InvalidArgument(f"configuration key {option.key}: must be a list of objects")
            return tuple(value)
    return value


def _int(key: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidArgument(f"invalid value {text!r} for {key}: must be a number") from None


def pair(key: str, text: str) -> tuple[str, str]:
    """(name, value) of name=value. Raises: InvalidArgument naming `key`."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InvalidArgument(f"invalid value {text!r} for {key}: must be name=value")
    return name, value


def _ulimit(text: str) -> tuple[str, Mapping[str, int]]:
    name, value = pair("default-ulimit", text)
    soft, _, hard = value.partition(":")
    return name, {"soft": _int("default-ulimit", soft), "hard": _int("default-ulimit", hard or soft)}


def _pool(item: Mapping[str, Any]) -> Mapping[str, Any]:
    if "base" not in item or "size" not in item:
        raise InvalidArgument("default-address-pools: base and size are required")
    return {"base": str(item["base"]), "size": _int("default-address-pools", str(item["size"]))}


_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_size(key: str, text: str) -> int:
    """Bytes of `64m`, `1g`, `1024`. Raises: InvalidArgument naming `key`."""
    lowered = text.strip().lower()
    for suffix in ("ib", "b"):
        if len(lowered) > 1 and lowered.endswith(suffix) and not lowered[: -len(suffix)].isdigit():
            lowered = lowered[: -len(suffix)]
            break
    number = lowered.rstrip("bkmgt")
    try:
        return int(float(number) * _UNITS[lowered[len(number) :]])
    except (ValueError, KeyError, OverflowError):
        raise InvalidArgument(f"invalid size {text!r} for {key}") from None
