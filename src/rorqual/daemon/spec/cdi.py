"""CDI devices (`--device vendor.com/class=name`, `--gpus` where a vendor has a spec): from /etc/cdi and /var/run/cdi.

A spec's containerEdits are applied to the runtime-spec: variables, device nodes, mounts, hooks, groups. The later
directory wins. Specs are JSON or YAML.
Source: Container Device Interface 1.0, github.com/cncf-tags/container-device-interface, SPEC.md.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rorqual.api.config import DeviceRequest
from rorqual.errdefs import Internal, InvalidArgument
from rorqual.oci import runtime

log = logging.getLogger(__name__)

DIRECTORIES = ("/etc/cdi", "/var/run/cdi")
_SPEC_MAX = 4 << 20  # bytes of a spec
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]/[A-Za-z][A-Za-z0-9_-]*=[A-Za-z0-9][A-Za-z0-9_.:-]*\Z")
_GPU_KINDS = ("nvidia.com/gpu", "amd.com/gpu")


@dataclass(frozen=True, slots=True)
class Edits:
    """What devices change in a spec."""

    env: tuple[str, ...] = ()
    devices: tuple[runtime.Device, ...] = ()
    rules: tuple[runtime.DeviceRule, ...] = ()
    mounts: tuple[runtime.Mount, ...] = ()
    hooks: tuple[tuple[str, runtime.Hook], ...] = ()
    groups: tuple[int, ...] = ()

    def __add__(self, other: Edits) -> Edits:
        return Edits(
            self.env + other.env,
            self.devices + other.devices,
            self.rules + other.rules,
            self.mounts + other.mounts,
            self.hooks + other.hooks,
            self.groups + other.groups,
        )


def edits(requests: Sequence[DeviceRequest], directories: Sequence[str] = DIRECTORIES) -> Edits:
    """The edits of all devices asked for. Raises: InvalidArgument, Internal with Docker's texts."""
    names: list[str] = []
    for request in requests:
        names += _names(request, directories)
    if not names:
        return Edits()
    for name in names:
        if not _NAME.match(name):
            raise InvalidArgument(f'invalid CDI device name "{name}"')
    found = _load(directories)
    missing = [name for name in names if name not in found]
    if missing:
        raise Internal(f"CDI device injection failed: unresolvable CDI devices {', '.join(missing)}")
    total = Edits()
    seen: set[int] = set()
    for name in dict.fromkeys(names):
        spec_number, common, own = found[name]
        if spec_number not in seen:
            seen.add(spec_number)
            total += common
        total += own
    return total


def _names(request: DeviceRequest, directories: Sequence[str]) -> list[str]:
    if request.driver == "cdi":
        return list(request.device_ids or ())
    wanted = {capability for group in request.capabilities for capability in group}
    refusal = InvalidArgument(
        f'could not select device driver "{request.driver}" with capabilities: '
        f"[{' '.join('[' + ' '.join(group) + ']' for group in request.capabilities)}]"
    )
    if "gpu" not in wanted:
        raise refusal
    found = _load(directories)
    for kind in _GPU_KINDS:
        known = [name for name in found if name.startswith(f"{kind}=")]
        if not known:
            continue
        if request.device_ids:
            return [f"{kind}={id}" for id in request.device_ids]
        if f"{kind}=all" in known and request.count == -1:
            return [f"{kind}=all"]
        one_by_one = sorted(name for name in known if not name.endswith("=all"))
        return one_by_one if request.count == -1 else one_by_one[: request.count]
    raise refusal


_Found = dict[str, tuple[int, Edits, Edits]]  # a device's name -> its spec, the spec's edits, its own


def _load(directories: Sequence[str]) -> _Found:
    found: _Found = {}
    number = 0
    for directory in directories:
        try:
            files = sorted(os.listdir(directory))
        except OSError:
            continue
        for file in files:
            path = f"{directory}/{file}"
            if not file.endswith((".json", ".yaml", ".yml")):
                continue
            number += 1
            try:
                found |= _read(path, number)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
                log.warning("CDI: %s: %s: %s", path, type(e).__name__, e)
    return found


def _read(path: str, number: int) -> _Found:
    with open(path, "rb") as file:
        text = file.read(_SPEC_MAX)
    document = json.loads(text) if path.endswith(".json") else _from_yaml(text)
    kind = str(document["kind"])
    common = _edits(document.get("containerEdits") or {})
    return {
        f"{kind}={device['name']}": (number, common, _edits(device.get("containerEdits") or {}))
        for device in document["devices"]
    }


def _from_yaml(text: bytes) -> Any:
    """Raises: ValueError."""
    import yaml  # only where there is such a spec: 2 MB

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise ValueError(str(e)) from e


def _edits(data: dict[str, Any]) -> Edits:
    nodes = [_device(node) for node in data.get("deviceNodes") or ()]
    mounts = [
        runtime.Mount(m["containerPath"], str(m.get("type") or "bind"), m["hostPath"], tuple(m.get("options") or ()))
        for m in data.get("mounts") or ()
    ]
    return Edits(
        env=tuple(map(str, data.get("env") or ())),
        devices=tuple(device for device, _ in nodes),
        rules=tuple(runtime.DeviceRule(True, d.type, d.major, d.minor, access) for d, access in nodes if d.type != "p"),
        mounts=tuple(replace(m, options=m.options or ("rbind", "rprivate")) for m in mounts),
        hooks=tuple((runtime.HOOK_KINDS[h["hookName"]], _hook(h)) for h in data.get("hooks") or ()),
        groups=tuple(int(g) for g in data.get("additionalGids") or () if int(g)),
    )


def _device(node: dict[str, Any]) -> tuple[runtime.Device, str]:
    path = str(node["path"])
    kind, major, minor = node.get("type"), node.get("major"), node.get("minor")
    if not kind or (major is None and kind != "p"):
        info = os.stat(str(node.get("hostPath") or path))
        kind = "b" if stat.S_ISBLK(info.st_mode) else "c"
        major, minor = os.major(info.st_rdev), os.minor(info.st_rdev)
    device = runtime.Device(
        path, str(kind), int(major or 0), int(minor or 0), node.get("fileMode"), node.get("uid"), node.get("gid")
    )
    return device, str(node.get("permissions") or "rwm")


def _hook(data: dict[str, Any]) -> runtime.Hook:
    return runtime.Hook(
        str(data["path"]), tuple(data.get("args") or ()), tuple(data.get("env") or ()), data.get("timeout")
    )


def hooks(entries: Sequence[tuple[str, runtime.Hook]]) -> runtime.Hooks | None:
    """The runtime-spec's hooks."""
    if not entries:
        return None
    return runtime.Hooks(**{name: tuple(h for n, h in entries if n == name) for name, _ in entries})
