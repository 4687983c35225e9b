"""--security-opt, and a seccomp profile in Docker's format to the runtime-spec's.

Source: https://docs.docker.com/engine/security/seccomp/, moby's seccomp profile format (includes, excludes, archMap).
"""

from __future__ import annotations

import functools
import json
import os
import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rorqual.errdefs import InvalidArgument
from rorqual.oci.defaults import default_seccomp
from rorqual.oci.runtime import Seccomp

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "x86", "armv7l": "arm"}


@dataclass(frozen=True, slots=True)
class SecurityOptions:
    """`seccomp`: "" for the default, "unconfined", or a profile's JSON."""

    seccomp: str = ""
    no_new_privileges: bool = False
    unmasked: bool = False


def parse(options: Sequence[str], *, no_new_privileges: bool = False, seccomp: str = "") -> SecurityOptions:
    """Raises: InvalidArgument with Docker's texts. SELinux options are accepted: no policy of ours uses them."""
    unmasked = False
    for option in options:
        if option == "no-new-privileges":
            no_new_privileges = True
            continue
        if option == "disable":
            continue
        name, sign, value = option.partition("=")
        if not sign:
            name, sign, value = option.partition(":")
        if not sign:
            raise InvalidArgument(f'invalid --security-opt 1: "{option}"')
        match name:
            case "seccomp":
                seccomp = "" if value == "builtin" else value
            case "no-new-privileges":
                if value not in ("true", "false", "1", "0"):
                    raise InvalidArgument(f'invalid --security-opt 2: "{option}"')
                no_new_privileges = value in ("true", "1")
            case "systempaths":
                if value != "unconfined":
                    raise InvalidArgument(f'invalid --security-opt 2: "{option}"')
                unmasked = True
            case "label":
                pass
            case "apparmor":
                if value not in ("", "unconfined") and not os.path.exists("/sys/module/apparmor/parameters/enabled"):
                    raise InvalidArgument("AppArmor is not supported on this host, but a profile was asked for")
            case _:
                raise InvalidArgument(f'invalid --security-opt 2: "{option}"')
    return SecurityOptions(seccomp, no_new_privileges, unmasked)


def seccomp_profile(options: SecurityOptions, capabilities: Collection[str]) -> Seccomp | None:
    """The filter for a process with these capabilities; None when unconfined. Raises: InvalidArgument."""
    if options.seccomp == "unconfined":
        return None
    machine = platform.machine()
    if not options.seccomp:
        return _default(tuple(sorted(capabilities)), machine)
    return _from_docker(options.seccomp, frozenset(capabilities), machine)


@functools.lru_cache(32)
def _default(capabilities: tuple[str, ...], machine: str) -> Seccomp:
    return default_seccomp(capabilities, machine)


def _from_docker(text: str, capabilities: frozenset[str], machine: str) -> Seccomp:
    try:
        profile = json.loads(text)
        if not isinstance(profile, dict):
            raise ValueError("must be an object")
        return Seccomp.from_json(_document(profile, capabilities, machine))
    except (ValueError, TypeError, AttributeError, KeyError) as e:
        raise InvalidArgument(f"Decoding seccomp profile failed: {e}") from e


def _document(profile: Mapping[str, Any], capabilities: frozenset[str], machine: str) -> dict[str, Any]:
    document: dict[str, Any] = {"defaultAction": profile["defaultAction"]}
    for key in ("defaultErrnoRet", "flags", "listenerPath", "listenerMetadata"):
        if profile.get(key) is not None:
            document[key] = profile[key]
    architectures = list(profile.get("architectures") or ())
    arch = _MACHINES.get(machine, machine)
    native = f"SCMP_ARCH_{ {'amd64': 'X86_64', 'arm64': 'AARCH64'}.get(arch, arch.upper()) }"
    for entry in profile.get("archMap") or ():
        if entry.get("architecture") == native:
            architectures += [native, *(entry.get("subArchitectures") or ())]
    if architectures:
        document["architectures"] = architectures
    document["syscalls"] = [_rule(rule) for rule in profile.get("syscalls") or () if _applies(rule, capabilities, arch)]
    return document


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    names = list(rule.get("names") or ()) + ([rule["name"]] if rule.get("name") else [])
    kept: dict[str, Any] = {"names": names, "action": rule["action"], "args": rule.get("args") or []}
    if rule.get("errnoRet") is not None:
        kept["errnoRet"] = rule["errnoRet"]
    return kept


def _applies(rule: Mapping[str, Any], capabilities: frozenset[str], arch: str) -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if includes.get("arches") and arch not in includes["arches"]:
        return False
    if arch in (excludes.get("arches") or ()):
        return False
    if not set(includes.get("caps") or ()) <= capabilities:
        return False
    if set(excludes.get("caps") or ()) & capabilities:
        return False
    if includes.get("minKernel") and _kernel() < _version(includes["minKernel"]):
        return False
    return not (excludes.get("minKernel") and _kernel() >= _version(excludes["minKernel"]))


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor.split(".")[0])


@functools.cache
def _kernel() -> tuple[int, int]:
    return _version(platform.release().split("-")[0])
