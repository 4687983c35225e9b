"""`RUN --mount=`: what a command has mounted while it runs.

Source: Dockerfile reference, "RUN --mount"; texts of errors as buildkit's frontend/dockerfile/instructions.
"""

from __future__ import annotations

import csv
import posixpath
from collections.abc import Callable
from dataclasses import dataclass, replace

from rorqual.errdefs import InvalidArgument

_TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING = ("shared", "private", "locked")
_FLAGS = frozenset(("readonly", "ro", "readwrite", "rw", "required"))
_KEYS: dict[str, frozenset[str]] = {
    "bind": frozenset(("source", "target", "from", "writable")),
    "cache": frozenset(("source", "target", "from", "id", "sharing", "mode", "uid", "gid", "writable")),
    "tmpfs": frozenset(("target", "size")),
    "secret": frozenset(("target", "id", "mode", "uid", "gid", "required", "env")),
    "ssh": frozenset(("target", "id", "mode", "uid", "gid", "required")),
}
_SAME = {"src": "source", "dst": "target", "destination": "target"}
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SECRETS = "/run/secrets/"


@dataclass(frozen=True, slots=True)
class RunMount:
    """One of them. `target` absolute, "" for a secret that is only in the environment, and for ssh without one."""

    kind: str
    target: str = ""
    source: str = ""
    origin: str = ""  # from=
    id: str = ""
    sharing: str = "shared"
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size: int = 0
    writable: bool = False
    required: bool = False
    env: str = ""


def parse(text: str, expanded: Callable[[str], str], working_dir: str) -> RunMount:
    """`expanded` replaces variables. Raises: InvalidArgument."""
    given: dict[str, str] = {}
    for field in next(csv.reader([text]), []):
        name, equals, value = field.partition("=")
        key = _SAME.get(name.lower(), name.lower())
        if not equals and key not in _FLAGS:
            raise InvalidArgument(f"invalid field '{field}' must be a key=value pair")
        given[key] = expanded(value) if equals else "true"
    kind = given.pop("type", "bind")
    if kind not in _TYPES:
        raise InvalidArgument(f'unsupported mount type "{kind}"')
    writable = kind == "cache"
    for key, means in (("readonly", False), ("ro", False), ("readwrite", True), ("rw", True)):
        if key in given:
            writable = _boolean(key, given.pop(key)) is means
            given["writable"] = ""
    for key in given:
        if key not in _KEYS[kind]:
            raise InvalidArgument(f"unexpected key '{key}' for mount type '{kind}'")
    mount = RunMount(
        kind,
        target=_absolute(given.get("target", ""), working_dir),
        source=given.get("source", ""),
        origin=given.get("from", ""),
        id=given.get("id", ""),
        sharing=given.get("sharing", "shared").lower(),
        mode=_number("mode", given["mode"], 8) if "mode" in given else None,
        uid=_number("uid", given.get("uid", "0")),
        gid=_number("gid", given.get("gid", "0")),
        size=_size(given.get("size", "0")),
        writable=writable,
        required=_boolean("required", given.get("required", "false")),
        env=given.get("env", ""),
    )
    return _completed(mount)


def _completed(mount: RunMount) -> RunMount:
    """With what a kind of mount takes for granted. Raises: InvalidArgument."""
    if mount.sharing not in _SHARING:
        raise InvalidArgument(f'unsupported sharing value "{mount.sharing}"')
    if mount.kind == "ssh":
        return replace(mount, id=mount.id or "default")
    if mount.kind == "secret":
        id = mount.id or posixpath.basename(mount.target)
        if not id:
            raise InvalidArgument("either id or target is required for a secret mount")
        target = mount.target or ("" if mount.env else _SECRETS + posixpath.basename(id))
        return replace(mount, id=id, target=target)
    if not mount.target:
        raise InvalidArgument("target is required")
    if mount.target == "/":
        raise InvalidArgument('invalid mount target "/"')
    return replace(mount, id=mount.id or mount.target)


def _absolute(target: str, working_dir: str) -> str:
    return posixpath.normpath(posixpath.join(working_dir or "/", target)) if target else ""


def _boolean(key: str, value: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise InvalidArgument(f"invalid value for {key}: {value}")
    return value.lower() in ("true", "1")


def _number(key: str, value: str, base: int = 10) -> int:
    try:
        return int(value, base)
    except ValueError as e:
        raise InvalidArgument(f"invalid value {value} for {key}") from e


def _size(text: str) -> int:
    """Bytes of `64m`."""
    lowered = text.lower().removesuffix("b") or "0"
    unit = lowered[-1] if lowered[-1] in _UNITS else ""
    try:
        return int(float(lowered.removesuffix(unit)) * _UNITS[unit])
    except ValueError as e:
        raise InvalidArgument(f"invalid value for size: {text}") from e
