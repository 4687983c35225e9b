"""What a client says of a build to the Dockerfile frontend, as options of the engine's builder.

Source: buildkit's frontend/dockerui (the keys) and Docker's buildx (what it sends).
"""

from __future__ import annotations

import csv
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from rorqual.api.config import HostConfig, Ulimit
from rorqual.daemon.services.build.options import BuildOptions
from rorqual.distribution.credentials import Credentials
from rorqual.errdefs import InvalidArgument, NotImplementedHere
from rorqual.oci import platform as platforms
from rorqual.oci import reference as references

_NETWORKS = {"": "default", "sandbox": "default", "host": "host", "none": "none"}
_FRONTENDS = ("docker/dockerfile", "docker/dockerfile-upstream")  # what this engine's own stands for


@dataclass(frozen=True, slots=True)
class Asked:
    """`context`: a URL, "" for the client's directory. `named`: contexts by name, each `kind:rest`."""

    options: BuildOptions
    context: str
    context_key: str
    dockerfile_key: str
    named: Mapping[str, str]


def check_frontend(name: str, source: str) -> None:
    """Raises: NotImplementedHere for another than Dockerfile's own."""
    if name == "dockerfile.v0" or (name == "gateway.v0" and _is_dockerfile(source)):
        return
    raise NotImplementedHere(f"frontend {source or name} is not offered: this engine reads Dockerfiles itself")


def check_syntax(directive: str) -> None:
    """Of `# syntax=`. Raises: NotImplementedHere."""
    image = directive.split()[0] if directive.split() else ""
    if image and not _is_dockerfile(image):
        raise NotImplementedHere(f"syntax {image} is not offered: this engine reads Dockerfiles itself")


def _is_dockerfile(image: str) -> bool:
    try:
        return references.parse(image.partition("@")[0]).familiar_name in _FRONTENDS
    except InvalidArgument:
        return False


def read(attributes: Mapping[str, str], credentials: Callable[[str], Awaitable[Credentials]]) -> Asked:
    """Raises: InvalidArgument, NotImplementedHere."""
    if attributes.get("requestid"):
        raise NotImplementedHere(f"{attributes['requestid']} is not offered: this engine's frontend builds only")
    platform = attributes.get("platform", "")
    if "," in platform:
        raise NotImplementedHere("a build is for one platform")
    options = BuildOptions(
        dockerfile=attributes.get("filename") or "Dockerfile",
        target=attributes.get("target", ""),
        arguments=_prefixed(attributes, "build-arg:"),
        labels=_prefixed(attributes, "label:"),
        host=_host(attributes),
        platform=platforms.normalize(platforms.parse(platform)) if platform else None,
        cache="no-cache" not in attributes or bool(attributes["no-cache"]),
        uncached=frozenset(name.lower() for name in attributes.get("no-cache", "").split(",") if name),
        pull=attributes.get("image-resolve-mode") == "pull",
        remove=True,
        force_remove=True,
        credentials=credentials,
    )
    return Asked(
        options,
        attributes.get("context", ""),
        attributes.get("contextkey") or "context",
        attributes.get("dockerfilekey") or "dockerfile",
        _prefixed(attributes, "context:"),
    )


def _prefixed(attributes: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {key.removeprefix(prefix): value for key, value in attributes.items() if key.startswith(prefix)}


def _host(attributes: Mapping[str, str]) -> HostConfig:
    mode = attributes.get("force-network-mode", "")
    if mode not in _NETWORKS:
        raise InvalidArgument(f"invalid network mode: {mode}")
    hosts = [_extra_host(pair) for pair in next(csv.reader([attributes.get("add-hosts", "")]), []) if pair]
    limits = [_ulimit(text) for text in next(csv.reader([attributes.get("ulimit", "")]), []) if text]
    return HostConfig(
        memory=_number(attributes, "memory"),
        memory_swap=_number(attributes, "memswap"),
        cpu_shares=_number(attributes, "cpushares"),
        cpu_period=_number(attributes, "cpuperiod"),
        cpu_quota=_number(attributes, "cpuquota"),
        cpuset_cpus=attributes.get("cpusetcpus", ""),
        cpuset_mems=attributes.get("cpusetmems", ""),
        shm_size=_number(attributes, "shm-size"),
        cgroup_parent=attributes.get("cgroup-parent", ""),
        network_mode=_NETWORKS[mode],
        extra_hosts=tuple(hosts) or None,
        ulimits=tuple(limits) or None,
    )


def _extra_host(pair: str) -> str:
    name, equals, address = pair.partition("=")
    if not equals:
        raise InvalidArgument(f"invalid key-value pair: {pair}")
    return f"{name}:{address}"


def _ulimit(text: str) -> Ulimit:
    """`nofile=1024:2048`"""
    name, _, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    try:
        return Ulimit(name=name, soft=int(soft), hard=int(hard or soft))
    except ValueError as e:
        raise InvalidArgument(f"invalid ulimit: {text}") from e


def _number(attributes: Mapping[str, str], key: str) -> int:
    try:
        return int(attributes.get(key) or 0)
    except ValueError as e:
        raise InvalidArgument(f"invalid {key}: {attributes[key]}") from e
