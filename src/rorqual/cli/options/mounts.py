"""-v, --mount, --tmpfs and --device. Raises: ValueError with Docker's text."""

from __future__ import annotations

import os

from rorqual.client import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    JSON = dict[str, Any]

_FLAG_KEYS = frozenset(("readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src"))
_RECURSIVE = {
    "disabled": "NonRecursive",
    "writable": "ReadOnlyNonRecursive",
    "readonly": "ReadOnlyForceRecursive",
}
# Option group -> (mount type it belongs to, prefix in the error)
_GROUPS = {
    "BindOptions": ("bind", "bind"),
    "VolumeOptions": ("volume", "volume"),
    "ImageOptions": ("image", "image"),
    "TmpfsOptions": ("tmpfs", "tmpfs"),
}


def split_volumes(specs: list[str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """(binds, anonymous volumes) of -v values; a relative host path becomes absolute."""
    binds: list[str] = []
    anonymous: dict[str, dict[str, str]] = {}
    for spec in dict.fromkeys(specs):
        if not spec:
            raise ValueError("invalid empty volume spec")
        parts = spec.split(":")
        if len(spec) > 2 and "" in parts:
            raise ValueError(f"invalid spec: {spec}: empty section between colons")
        if len(parts) == 1 or len(spec) <= 2:
            anonymous[spec] = {}
            continue
        if parts[0].startswith("."):
            parts[0] = os.path.abspath(parts[0])
        binds.append(":".join(parts))
    return binds, anonymous


def parse_mount(text: str) -> JSON:
    """A --mount value as the API's Mount."""
    fields = values.split_csv(text)
    mount: JSON = {"Type": "volume"}
    for field in fields:
        _mount_field(mount, field)
    _check_mount(mount)
    return mount


def _mount_field(mount: JSON, field: str) -> None:
    key, has_value, value = field.partition("=")
    if key.strip() != key:
        raise ValueError(f"invalid option '{key.strip()}' in '{field}': option should not have whitespace")
    if has_value:
        if not value.strip():
            raise ValueError(f"invalid value for '{key}': value is empty")
        if value.strip() != value:
            raise ValueError(f"invalid value for '{key}' in '{field}': value should not have whitespace")
    key = key.lower()
    if not has_value and key not in _FLAG_KEYS:
        raise ValueError(f"invalid field '{field}' must be a key=value pair")
    if key == "type":
        mount["Type"] = value.lower()
    elif key in ("source", "src"):
        mount["Source"] = os.path.abspath(value) if value.startswith(".") else value
    elif key in ("target", "dst", "destination"):
        mount["Target"] = value
    elif key in ("readonly", "ro"):
        mount["ReadOnly"] = _bool(key, value, has_value)
    elif key == "consistency":
        mount["Consistency"] = value.lower()
    else:
        _option_field(mount, key, value, has_value, field)


def _option_field(mount: JSON, key: str, value: str, has_value: str, field: str) -> None:
    group, _, name = key.partition("-")
    options: JSON
    if group not in ("bind", "volume", "image", "tmpfs") or not name:
        raise ValueError(f"unknown option '{key}' in '{field}'")
    options = mount.setdefault(group.capitalize() + "Options", {})
    if key == "bind-propagation":
        options["Propagation"] = value.lower()
    elif key == "bind-nonrecursive":
        options["NonRecursive"] = _bool(key, value, has_value)
    elif key == "bind-recursive":
        if value in _RECURSIVE:
            options[_RECURSIVE[value]] = True
        elif value != "enabled":
            raise ValueError(
                f'invalid value for {key}: {value} (must be "enabled", "disabled", "writable", or "readonly")'
            )
    elif key == "bind-create-src":
        options["CreateMountpoint"] = _bool(key, value, has_value)
    elif key in ("volume-subpath", "image-subpath"):
        options["Subpath"] = value
    elif key == "volume-nocopy":
        options["NoCopy"] = _bool(key, value, has_value)
    elif key == "volume-label":
        _put(options.setdefault("Labels", {}), value)
    elif key == "volume-driver":
        options.setdefault("DriverConfig", {})["Name"] = value
    elif key == "volume-opt":
        _put(options.setdefault("DriverConfig", {}).setdefault("Options", {}), value)
    elif key == "tmpfs-size":
        try:
            options["SizeBytes"] = values.parse_bytes(value)
        except ValueError as e:
            raise ValueError(f"invalid value for {key}: {value}") from e
    elif key == "tmpfs-mode":
        try:
            options["Mode"] = int(value, 8)
        except ValueError as e:
            raise ValueError(f"invalid value for {key}: {value}") from e
    else:
        raise ValueError(f"unknown option '{key}' in '{field}'")


def _put(target: dict[str, str], pair: str) -> None:
    key, _, value = pair.partition("=")
    if key:
        target[key] = value


def _bool(key: str, value: str, has_value: str) -> bool:
    if not has_value or value in ("1", "true"):
        return True
    if value in ("0", "false"):
        return False
    raise ValueError(
        f"invalid value for '{key}': invalid boolean value ({values.quote(value)}): "
        'must be one of "true", "1", "false", or "0" (default "true")'
    )


def _check_mount(mount: JSON) -> None:
    kind = mount["Type"]
    if not kind:
        raise ValueError("type is required")
    if not mount.get("Target"):
        raise ValueError("target is required")
    for group, (only, prefix) in _GROUPS.items():
        if group in mount and kind != only:
            raise ValueError(f"cannot mix '{prefix}-*' options with mount type '{kind}'")
    bind = mount.get("BindOptions") or {}
    if bind.get("ReadOnlyNonRecursive") and not mount.get("ReadOnly"):
        raise ValueError("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction")
    if bind.get("ReadOnlyForceRecursive"):
        if not mount.get("ReadOnly"):
            raise ValueError("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction")
        if bind.get("Propagation") != "rprivate":
            raise ValueError(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
            )


def split_tmpfs(specs: list[str]) -> dict[str, str]:
    """--tmpfs values as path -> options."""
    return {path: options for path, _, options in (spec.partition(":") for spec in specs)}


def parse_devices(specs: list[str]) -> tuple[list[JSON], list[str]]:
    """(device mappings, CDI names) of --device values."""
    mappings: list[JSON] = []
    names: list[str] = []
    for spec in specs:
        if _is_cdi_name(spec):
            names.append(spec)
        else:
            mappings.append(_device(spec))
    return mappings, names


def _device(spec: str) -> JSON:
    parts = spec.split(":")
    if len(parts) > 3:
        raise ValueError(f"bad format for path: {spec}")
    source, target, mode = parts[0], "", "rwm"
    if len(parts) == 3:
        target, mode = parts[1], parts[2]
        if not _is_device_mode(mode):
            raise ValueError(f"bad mode specified: {mode}")
    elif len(parts) == 2:
        if _is_device_mode(parts[1]):
            mode = parts[1]
        else:
            target = parts[1]
    inside = target or source
    if not source:
        raise ValueError(f"bad format for path: {spec}")
    if not inside.startswith("/"):
        raise ValueError(f"{inside} is not an absolute path")
    return {"PathOnHost": source, "PathInContainer": inside, "CgroupPermissions": mode}


def _is_device_mode(text: str) -> bool:
    return bool(text) and len(set(text)) == len(text) and set(text) <= set("rwm")


def _is_cdi_name(text: str) -> bool:
    """`vendor.com/class=name`. Source: Container Device Interface specification."""
    kind, equals, name = text.partition("=")
    vendor, slash, device_class = kind.partition("/")
    return bool(equals and slash and name and vendor and device_class) and vendor[0].isalpha()


def parse_device_cgroup_rule(text: str) -> str:
    import re

    if not re.fullmatch(r"[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}", text):
        raise ValueError(f"invalid device cgroup format '{text}'")
    return text
