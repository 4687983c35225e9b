"""--device, --device-cgroup-rule and --privileged: device nodes and device cgroup rules."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence

from rorqual.api.config import DeviceMapping
from rorqual.errdefs import InvalidArgument
from rorqual.oci.runtime import Device, DeviceRule

_RULE = re.compile(r"^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})\Z")
_PERMISSIONS = frozenset("rwm")
# What a privileged container gets from the runtime as its own, or what would be the host's terminal.
_SKIPPED = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"})


def check_rules(rules: Sequence[str]) -> None:
    """Raises: InvalidArgument."""
    for rule in rules:
        if not _RULE.match(rule):
            raise InvalidArgument(f"invalid device cgroup rule format: '{rule}'")


def cgroup_rules(rules: Sequence[str]) -> list[DeviceRule]:
    """`c 13:* rwm` and the like."""
    parsed: list[DeviceRule] = []
    for rule in rules:
        match = _RULE.match(rule)
        if match is None:
            raise InvalidArgument(f"invalid device cgroup rule format: '{rule}'")
        kind, major, minor, access = match.groups()
        numbers = [None if text == "*" else int(text) for text in (major, minor)]
        parsed.append(DeviceRule(True, kind, numbers[0], numbers[1], access))
    return parsed


def mapped(mapping: DeviceMapping) -> tuple[list[Device], list[DeviceRule]]:
    """The nodes and rules of one --device; a directory means all devices in it. Raises: InvalidArgument."""
    access = mapping.cgroup_permissions or "rwm"
    if not set(access) <= _PERMISSIONS:
        raise InvalidArgument(f"invalid device mode: {access}")
    source = os.path.realpath(mapping.path_on_host)
    target = mapping.path_in_container or mapping.path_on_host
    try:
        devices = list(_below(source, target)) if os.path.isdir(source) else [_device(source, target)]
    except OSError as e:
        text = f'error gathering device information while adding custom device "{mapping.path_on_host}"'
        raise InvalidArgument(f"{text}: {(e.strerror or str(e)).lower()}") from e
    if not devices:
        text = f'error gathering device information while adding custom device "{mapping.path_on_host}"'
        raise InvalidArgument(f"{text}: not a device node")
    return devices, [DeviceRule(True, d.type, d.major, d.minor, access) for d in devices]


def host_devices() -> list[Device]:
    """All device nodes below /dev, for --privileged."""
    return list(_below("/dev", "/dev"))


def _below(source: str, target: str) -> Iterator[Device]:
    with os.scandir(source) as entries:
        for entry in entries:
            if source == "/dev" and entry.name in _SKIPPED:
                continue
            path = f"{target.rstrip('/')}/{entry.name}"
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield from _below(entry.path, path)
                elif not entry.is_symlink():
                    mode = entry.stat(follow_symlinks=False).st_mode
                    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                        yield _device(entry.path, path)
            except FileNotFoundError:
                continue  # /dev changes while it is read


def _device(source: str, target: str) -> Device:
    info = os.stat(source)
    if stat.S_ISCHR(info.st_mode):
        kind = "c"
    elif stat.S_ISBLK(info.st_mode):
        kind = "b"
    else:
        raise OSError(0, "not a device node")
    return Device(
        target,
        kind,
        os.major(info.st_rdev),
        os.minor(info.st_rdev),
        stat.S_IMODE(info.st_mode),
        info.st_uid,
        info.st_gid,
    )
