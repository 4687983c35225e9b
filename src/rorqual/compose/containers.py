"""A service's container as the API takes it: POST /containers/create.

Source: Compose Specification, "Services"; Engine API 1.56, ContainerCreate.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rorqual.compose import labels, mounts, resources
from rorqual.compose.kinds import JSON, duration_ns
from rorqual.compose.project import Project, config_hash, dependencies_of
from rorqual.errdefs import InvalidArgument
from rorqual.version import __version__

IFNAME = "com.docker.network.endpoint.ifname"
_UNSUPPORTED = ("pre_start", "models", "use_api_socket", "credential_spec", "provider")
_RESTART = {"none": "no", "no": "no", "any": "always", "always": "always"}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a container's settings refer to: `container_of` gives a service's container (its ID), `links` its names.

    `image_id` is what the image's name means now; `volumes` keep what was at a path: target -> volume name.
    """

    image_id: str
    container_of: Callable[[str], str]
    links: Callable[[str], list[str]]
    volumes: Mapping[str, str] = field(default_factory=dict)


def body(project: Project, name: str, service: JSON, around: Surroundings, *, own: JSON) -> JSON:
    """ContainerConfig, HostConfig and NetworkingConfig; `own`: labels of the container alone.

    Raises: InvalidArgument.
    """
    for key in _UNSUPPORTED:
        if service.get(key):
            raise InvalidArgument(f'service "{name}": {key} is not supported')
    interactive = bool(service.get("stdin_open"))
    config: JSON = {
        "Hostname": service.get("hostname", ""),
        "Domainname": service.get("domainname", ""),
        "User": service.get("user", ""),
        "ExposedPorts": _exposed(service),
        "Tty": bool(service.get("tty")),
        "OpenStdin": interactive,
        "StdinOnce": interactive,
        "AttachStdin": False,
        "AttachStdout": True,
        "AttachStderr": True,
        "Env": [f"{key}={value}" for key, value in (service.get("environment") or {}).items() if value is not None],
        "Image": project.image(name),
        "WorkingDir": service.get("working_dir", ""),
        "Labels": {**(service.get("labels") or {}), **_labels(project, name, service, around), **own},
        "StopSignal": service.get("stop_signal", ""),
    }
    if (command := service.get("command")) is not None:
        config["Cmd"] = command
    if (entrypoint := service.get("entrypoint")) is not None:
        config["Entrypoint"] = entrypoint or [""]
    if "stop_grace_period" in service:
        config["StopTimeout"] = -(-duration_ns(service["stop_grace_period"]) // 10**9)
    if check := service.get("healthcheck"):
        config["Healthcheck"] = _healthcheck(check)
    if "mac_address" in service:
        config["MacAddress"] = service["mac_address"]
    mode, endpoints = networks(project, name, service, around)
    config["HostConfig"] = {**_host(project, service, around), **resources.of(service), "NetworkMode": mode}
    config["NetworkingConfig"] = {"EndpointsConfig": endpoints}
    return config


def _labels(project: Project, name: str, service: JSON, around: Surroundings) -> JSON:
    needs = [
        f"{other}:{how.get('condition', 'service_started')}:{str(bool(how.get('restart'))).lower()}"
        for other, how in dependencies_of(service).items()
    ]
    return {
        labels.PROJECT: project.name,
        labels.SERVICE: name,
        labels.CONFIG_HASH: config_hash(service),
        labels.CONFIG_FILES: ",".join(project.files),
        labels.WORKING_DIR: project.directory,
        labels.DEPENDS_ON: ",".join(needs),
        labels.IMAGE: around.image_id,
        labels.VERSION: __version__,
    }


def _exposed(service: JSON) -> JSON:
    found: JSON = {}
    for port in service.get("expose") or ():
        numbers, _, protocol = port.partition("/")
        first, _, last = numbers.partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()) or max(int(first), int(last or 0)) > 65535:
            raise InvalidArgument(f"invalid expose: {port}")
        found |= {f"{number}/{protocol or 'tcp'}": {} for number in range(int(first), int(last or first) + 1)}
    return found | {f"{port['target']}/{port['protocol']}": {} for port in service.get("ports") or ()}


def bindings(ports: list[JSON]) -> JSON:
    """HostConfig.PortBindings."""
    found: JSON = {}
    for port in ports:
        binding = {"HostIp": port.get("host_ip", ""), "HostPort": port.get("published", "")}
        found.setdefault(f"{port['target']}/{port['protocol']}", []).append(binding)
    return found


def _healthcheck(check: JSON) -> JSON:
    if check.get("disable"):
        return {"Test": ["NONE"]}
    test = check.get("test")
    if test and test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise InvalidArgument('healthcheck.test must start either by "CMD", "CMD-SHELL" or "NONE"')
    out: JSON = {"Test": test} if test else {}
    for key, field_name in (
        ("interval", "Interval"), ("timeout", "Timeout"), ("start_period", "StartPeriod"),
        ("start_interval", "StartInterval"),
    ):  # fmt: skip
        if key in check:
            out[field_name] = duration_ns(check[key])
    if "retries" in check:
        out["Retries"] = check["retries"]
    return out


def networks(project: Project, name: str, service: JSON, around: Surroundings) -> tuple[str, JSON]:
    """(network mode, endpoints' settings by network name). The network of the highest priority is the mode."""
    mode = service.get("network_mode")
    if mode:
        return shared(mode, around), {}
    wanted: JSON = service.get("networks") or {}
    if not wanted:
        return "none", {}
    first = sorted(wanted, key=lambda key: (-((wanted[key] or {}).get("priority") or 0), key))
    endpoints = {
        project.networks[key]["name"]: _endpoint(project, name, service, wanted[key] or {}, around) for key in first
    }
    return next(iter(endpoints)), endpoints


def shared(mode: str, around: Surroundings) -> str:
    """A namespace's mode, with services as their containers."""
    return f"container:{around.container_of(mode[8:])}" if mode.startswith("service:") else mode


def _endpoint(project: Project, name: str, service: JSON, settings: JSON, around: Surroundings) -> JSON:
    ipam = {
        "IPv4Address": settings.get("ipv4_address"),
        "IPv6Address": settings.get("ipv6_address"),
        "LinkLocalIPs": settings.get("link_local_ips"),
    }
    endpoint: JSON = {"Aliases": [name, *(settings.get("aliases") or ())]}
    if found := {key: value for key, value in ipam.items() if value}:
        endpoint["IPAMConfig"] = found
    options = dict(settings.get("driver_opts") or {})
    if "interface_name" in settings:
        options[IFNAME] = settings["interface_name"]
    if options:
        endpoint["DriverOpts"] = options
    if "mac_address" in settings:
        endpoint["MacAddress"] = settings["mac_address"]
    if "gw_priority" in settings:
        endpoint["GwPriority"] = settings["gw_priority"]
    linked: list[str] = []
    for link in service.get("links") or ():
        other, _, alias = link.partition(":")
        for container in around.links(other):
            short = container.removeprefix(project.name + "-")
            linked += [f"{container}:{known}" for known in dict.fromkeys((alias or other, short, container))]
    for link in service.get("external_links") or ():
        other, _, alias = link.partition(":")
        linked.append(f"{other}:{alias or other}")
    if linked:
        endpoint["Links"] = list(dict.fromkeys(linked))
    return endpoint


def _host(project: Project, service: JSON, around: Surroundings) -> JSON:
    binds, mounted = mounts.of(project, service, around.volumes)
    host: JSON = {
        "Annotations": service.get("annotations"),
        "Binds": binds,
        "Mounts": mounted,
        "CapAdd": service.get("cap_add"),
        "CapDrop": service.get("cap_drop"),
        "CgroupnsMode": service.get("cgroup", ""),
        "Dns": service.get("dns"),
        "DnsOptions": service.get("dns_opt"),
        "DnsSearch": service.get("dns_search"),
        "ExtraHosts": [host.replace("=", ":", 1) for host in service.get("extra_hosts") or ()],
        "GroupAdd": service.get("group_add"),
        "Init": service.get("init"),
        "IpcMode": shared(service.get("ipc") or "", around),
        "Isolation": service.get("isolation", ""),
        "PidMode": shared(service.get("pid") or "", around),
        "PortBindings": bindings(service.get("ports") or []),
        "Privileged": bool(service.get("privileged")),
        "ReadonlyRootfs": bool(service.get("read_only")),
        "RestartPolicy": _restart(service),
        "Runtime": service.get("runtime", ""),
        "SecurityOpt": [_security(option, project.directory) for option in service.get("security_opt") or ()],
        "ShmSize": int(service.get("shm_size", 0)),
        "StorageOpt": service.get("storage_opt"),
        "Sysctls": service.get("sysctls"),
        "Tmpfs": dict(entry.partition(":")[::2] for entry in service.get("tmpfs") or ()),
        "UTSMode": service.get("uts", ""),
        "UsernsMode": service.get("userns_mode", ""),
        "VolumesFrom": [_volumes_from(entry, around) for entry in service.get("volumes_from") or ()],
    }
    if logging := service.get("logging"):
        options = {key: value for key, value in (logging.get("options") or {}).items() if value is not None}
        host["LogConfig"] = {"Type": logging.get("driver", ""), "Config": options}
    return host


def _volumes_from(entry: str, around: Surroundings) -> str:
    if entry.startswith("container:"):
        return entry.removeprefix("container:")
    name, colon, mode = entry.partition(":")
    return around.container_of(name) + colon + mode


def _security(option: str, directory: str) -> str:
    """A seccomp profile's file as its contents, as the API takes it. Raises: InvalidArgument."""
    key, separator, value = option.partition("=" if "=" in option else ":")
    if key != "seccomp" or value in ("unconfined", "builtin"):
        return f"{key}={value}" if separator else option
    try:
        with open(os.path.join(directory, value), encoding="utf-8") as file:
            return f"seccomp={json.dumps(json.load(file), separators=(',', ':'))}"
    except (OSError, ValueError) as e:
        raise InvalidArgument(f"opening seccomp profile ({value}) failed: {e}") from None


def _restart(service: JSON) -> JSON | None:
    policy = (service.get("deploy") or {}).get("restart_policy")
    if policy is None:
        if text := service.get("restart"):
            name, _, count = text.partition(":")
            return {"Name": name, "MaximumRetryCount": int(count or 0)}
        return None
    condition = policy.get("condition", "any")
    return {"Name": _RESTART.get(condition, condition), "MaximumRetryCount": policy.get("max_attempts", 0)}
