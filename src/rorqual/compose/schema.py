"""The Compose file's elements, as kinds. Source: Compose Specification 2025, schema/compose-spec.json."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from rorqual.client import ports as portspecs
from rorqual.compose.kinds import (
    JSON,
    Array,
    Boolean,
    Bytes,
    Command,
    Duration,
    Either,
    Fields,
    Kind,
    Mode,
    Number,
    Path,
    Table,
    Test,
    Text,
    pairs,
    resolved,
    wrong,
)
from rorqual.errdefs import InvalidArgument

NAME = r"[a-zA-Z0-9._-]+"
_TEXT, _WORD, _FLAG, _INTEGER, _SIZE, _TIME = Text(), Text(numbers=True), Boolean(), Number(), Bytes(), Duration()
_TEXTS = Array(_TEXT)
_TEXT_OR_TEXTS = Array(_TEXT, single=True)


class _Nullable(Kind):
    """A value that may be left out behind its name."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self.null_replaces = isinstance(kind, Text)

    def canon(self, value: Any, at: str, base: str | None) -> Any:
        return None if value is None else self._kind.canon(value, at, base)

    def merge(self, old: Any, new: Any) -> Any:
        return self._kind.merge(old, new) if old is not None and new is not None else new


_VARIABLES = Table(_Nullable(_WORD), short=pairs)
_LABELS = Table(_WORD, short=lambda items, at: {k: v or "" for k, v in pairs(items, at).items()}, empty=True)
_OPTIONS = Table(_WORD)


class _Labels(Kind):
    """Labels: a name alone has the empty value."""

    def canon(self, value: Any, at: str, base: str | None) -> JSON:
        return {name: item or "" for name, item in _LABELS.canon(value, at, base).items()}

    def merge(self, old: Any, new: Any) -> Any:
        return {**old, **new}


class _Hosts(Kind):
    """Extra hosts: ["name=address"], of that, of name:address, or of a mapping."""

    def canon(self, value: Any, at: str, base: str | None) -> list[str]:
        found: list[tuple[str, Any]] = []
        if isinstance(value, list):
            for item in value:
                found += pairs([item], at, "=" if "=" in str(item) else ":").items()
        elif isinstance(value, dict):
            found += value.items()
        else:
            raise wrong(at, "a mapping or an array")
        out: list[str] = []
        for name, addresses in found:
            for address in addresses if isinstance(addresses, list) else [addresses]:
                if not isinstance(address, str) or not address:
                    raise InvalidArgument(f"{at}: bad host name '{name}'")
                out.append(f"{name}={address.removeprefix('[').removesuffix(']')}")
        return out

    def merge(self, old: Any, new: Any) -> Any:
        return list(dict.fromkeys([*old, *new]))


def _depends(items: list[Any], at: str) -> JSON:
    return {_TEXT.canon(item, at, None): {"condition": "service_started", "required": True} for item in items}


def _names(items: list[Any], at: str) -> JSON:
    return {_TEXT.canon(item, at, None): None for item in items}


_CONDITIONS = ("service_started", "service_healthy", "service_completed_successfully")
_DEPENDS_ON = Table(
    Fields({"condition": Text(*_CONDITIONS), "required": _FLAG, "restart": _FLAG}),
    short=_depends,
)

_PORT = Fields(
    {
        "name": _TEXT, "mode": _TEXT, "host_ip": _TEXT, "target": _INTEGER, "published": _WORD, "protocol": _TEXT,
        "app_protocol": _TEXT,
    }
)  # fmt: skip


class _Port(Kind):
    """One entry, which may stand for a range of ports: a list of long forms."""

    def canon(self, value: Any, at: str, base: str | None) -> list[JSON]:
        if isinstance(value, dict):
            port = _PORT.canon(value, at, base)
            if "target" not in port:
                raise InvalidArgument(f"{at}: missing property 'target'")
            return [{"mode": "ingress", "protocol": "tcp", **port}]
        text = _WORD.canon(value, at, base)
        try:
            _, bindings = portspecs.parse_publish([text])
        except ValueError as e:
            raise InvalidArgument(f"{at}: {e}") from None
        out: list[JSON] = []
        for port, found in bindings.items():
            target, _, protocol = port.partition("/")
            for binding in found:
                entry: JSON = {"mode": "ingress", "target": int(target), "protocol": protocol}
                if binding["HostIp"]:
                    entry["host_ip"] = binding["HostIp"]
                if binding["HostPort"]:
                    entry["published"] = binding["HostPort"]
                out.append(entry)
        return out


def _port_key(port: JSON) -> Any:
    return port.get("host_ip") or "0.0.0.0", port["target"], port.get("published"), port["protocol"]


_VOLUME = Fields(
    {
        "type": Text("bind", "volume", "tmpfs", "cluster", "npipe", "image"),
        "source": _TEXT,
        "target": _TEXT,
        "read_only": _FLAG,
        "consistency": _TEXT,
        "bind": Fields(
            {
                "propagation": _TEXT,
                "create_host_path": _FLAG,
                "recursive": Text("enabled", "disabled", "writable", "readonly"),
                "selinux": Text("z", "Z"),
            }
        ),
        "volume": Fields({"labels": _Labels(), "nocopy": _FLAG, "subpath": _TEXT}),
        "tmpfs": Fields({"size": _SIZE, "mode": Mode()}),
        "image": Fields({"subpath": _TEXT}),
    }
)
_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")


class _Volume(Kind):
    def canon(self, value: Any, at: str, base: str | None) -> JSON:
        volume = _short_volume(value, at) if isinstance(value, str) else _VOLUME.canon(value, at, base)
        if "type" not in volume:
            raise InvalidArgument(f"{at}: missing property 'type'")
        if not volume.get("target"):
            raise InvalidArgument(f"{at}: missing property 'target'")
        if volume["type"] == "bind":
            if not volume.get("source"):
                raise InvalidArgument(f"{at}: a bind mount must have a source")
            volume["bind"] = {"create_host_path": True, **volume.get("bind", {})}
            if base is not None:
                volume["source"] = resolved(volume["source"], base)
        elif volume["type"] == "volume":
            volume.setdefault("volume", {})
        volume["target"] = os.path.normpath(volume["target"])
        return volume


def _short_volume(text: str, at: str) -> JSON:
    parts = text.split(":")
    if not text or len(parts) > 3 or "" in parts:
        raise InvalidArgument(
            f"{at}: invalid spec: {text}: {'too many colons' if len(parts) > 3 else 'empty section between colons'}"
        )
    if len(parts) == 1:
        return {"type": "volume", "target": text}
    source, target = parts[:2]
    is_path = source.startswith((".", "/", "~"))
    volume: JSON = {"type": "bind" if is_path else "volume", "source": source, "target": target}
    for option in parts[2].split(",") if len(parts) == 3 else ():
        if option in ("ro", "rw"):
            volume["read_only"] = option == "ro"
        elif option in _PROPAGATIONS:
            volume.setdefault("bind", {})["propagation"] = option
        elif option in ("z", "Z"):
            volume.setdefault("bind", {})["selinux"] = option
        elif option == "nocopy":
            volume.setdefault("volume", {})["nocopy"] = True
        elif option in ("cached", "delegated", "consistent"):
            volume["consistency"] = option
    if volume.get("read_only") is False:
        del volume["read_only"]
    return volume


def _reference(value: Any, at: str, base: str | None) -> JSON:
    return {"source": _TEXT.canon(value, at, base)}


def _needs(name: str) -> Callable[[JSON, str, str | None], JSON]:
    """A check that an object has a property."""

    def check(value: JSON, at: str, base: str | None) -> JSON:
        if name not in value:
            raise InvalidArgument(f"{at}: missing property '{name}'")
        return value

    return check


_FILES = Array(
    Fields(
        {"source": _TEXT, "target": _TEXT, "uid": _WORD, "gid": _WORD, "mode": Mode()},
        short=_reference,
        finish=_needs("source"),
    ),
    key=lambda item: (item.get("target") or item["source"]).removeprefix("/run/secrets/"),
)
_ENV_FILES = Array(
    Fields(
        {"path": Path(), "format": _TEXT, "required": _FLAG},
        short=lambda value, at, base: {"path": Path().canon(value, at, base)},
        finish=_needs("path"),
    ),
    single=True,
    key=lambda item: item["path"],
)


def _limits(value: Any, at: str, base: str | None) -> int:
    number = _INTEGER.canon(value, at, base)
    return int(number)


_ULIMITS = Table(Fields({"soft": _INTEGER, "hard": _INTEGER}, short=_limits), names="[a-z]+")


class _Logging(Fields):
    """Options are one driver's: another driver has none of them."""

    def merge(self, old: Any, new: Any) -> Any:
        other = "driver" in old and "driver" in new and old["driver"] != new["driver"]
        return new if other else super().merge(old, new)


def _device(value: Any, at: str, base: str | None) -> JSON:
    parts = _TEXT.canon(value, at, base).split(":")
    if len(parts) > 3 or "" in parts:
        raise InvalidArgument(f"{at}: invalid device mapping: {value}")
    source, target, permissions = (*parts, *("", "", "")[len(parts) :])
    return {"source": source, "target": target or source, "permissions": permissions or "rwm"}


_GPU = Fields(
    {
        "capabilities": _TEXTS, "count": Either(lambda v: v == "all", _TEXT, _INTEGER), "device_ids": _TEXTS,
        "driver": _TEXT, "options": _Labels(),
    }
)  # fmt: skip


class _Gpus(Kind):
    def canon(self, value: Any, at: str, base: str | None) -> list[JSON]:
        if value == "all":
            return [{"count": "all"}]
        found: list[JSON] = Array(_GPU).canon(value, at, base)
        return found


_HOOK_FIELDS: dict[str, Kind] = {
    "command": Command(), "user": _TEXT, "privileged": _FLAG, "working_dir": _TEXT, "environment": _VARIABLES,
}  # fmt: skip
_HOOKS = Array(Fields(_HOOK_FIELDS))


def _build(value: Any, at: str, base: str | None) -> JSON:
    return {"context": _CONTEXT.canon(value, at, base)}


def _built(value: JSON, at: str, base: str | None) -> JSON:
    if "dockerfile" in value and "dockerfile_inline" in value:
        raise InvalidArgument(f"{at}: dockerfile and dockerfile_inline are mutually exclusive")
    return value


_CONTEXT = Path(urls=True)
_BUILD = Fields(
    {
        "context": _CONTEXT, "dockerfile": _TEXT, "dockerfile_inline": _TEXT, "entitlements": _TEXTS,
        "args": _VARIABLES, "ssh": _VARIABLES, "labels": _Labels(), "cache_from": _TEXTS, "cache_to": _TEXTS,
        "no_cache": _FLAG, "no_cache_filter": _TEXT_OR_TEXTS, "additional_contexts": _VARIABLES, "network": _TEXT,
        "provenance": _WORD, "sbom": _WORD, "pull": _FLAG, "target": _TEXT, "shm_size": _SIZE,
        "extra_hosts": _Hosts(), "isolation": _TEXT, "privileged": _FLAG, "secrets": _FILES, "tags": _TEXTS,
        "ulimits": _ULIMITS, "platforms": _TEXTS,
    },
    short=_build,
    finish=_built,
)  # fmt: skip

_HEALTHCHECK = Fields(
    {
        "disable": _FLAG, "interval": _TIME, "retries": _INTEGER, "test": Test(), "timeout": _TIME,
        "start_period": _TIME, "start_interval": _TIME,
    }
)  # fmt: skip
_BLKIO_RATES = Array(Fields({"path": _TEXT, "rate": _SIZE}, finish=_needs("rate")), key=lambda item: item.get("path"))
_BLKIO = Fields(
    {
        "device_read_bps": _BLKIO_RATES, "device_read_iops": _BLKIO_RATES, "device_write_bps": _BLKIO_RATES,
        "device_write_iops": _BLKIO_RATES, "weight": _INTEGER,
        "weight_device": Array(Fields({"path": _TEXT, "weight": _INTEGER}), key=lambda item: item.get("path")),
    }
)  # fmt: skip

_UPDATES = Fields(
    {
        "parallelism": _INTEGER, "delay": _TIME, "failure_action": _TEXT, "monitor": _TIME,
        "max_failure_ratio": Number(fraction=True), "order": Text("start-first", "stop-first"),
    }
)  # fmt: skip
_GENERIC = Array(Fields({"discrete_resource_spec": Fields({"kind": _TEXT, "value": _INTEGER})}))
_DEPLOY = Fields(
    {
        "mode": _TEXT, "endpoint_mode": _TEXT, "replicas": _INTEGER, "labels": _Labels(), "rollback_config": _UPDATES,
        "update_config": _UPDATES,
        "resources": Fields(
            {
                "limits": Fields({"cpus": _WORD, "memory": _SIZE, "pids": _INTEGER}),
                "reservations": Fields(
                    {"cpus": _WORD, "memory": _SIZE, "generic_resources": _GENERIC, "devices": Array(_GPU)}
                ),
            }
        ),
        "restart_policy": Fields(
            {"condition": _TEXT, "delay": _TIME, "max_attempts": _INTEGER, "window": _TIME}
        ),
        "placement": Fields(
            {
                "constraints": _TEXTS, "preferences": Array(Fields({"spread": _TEXT})),
                "max_replicas_per_node": _INTEGER,
            }
        ),
    }
)  # fmt: skip

_WATCH = Array(
    Fields(
        {
            "ignore": _TEXT_OR_TEXTS, "include": _TEXT_OR_TEXTS, "path": Path(),
            "action": Text("rebuild", "sync", "restart", "sync+restart", "sync+exec"), "target": _TEXT,
            "exec": Fields(_HOOK_FIELDS), "initial_sync": _FLAG,
        }
    )
)  # fmt: skip
_SERVICE_NETWORK = Fields(
    {
        "aliases": _TEXTS, "interface_name": _TEXT, "ipv4_address": _TEXT, "ipv6_address": _TEXT,
        "link_local_ips": _TEXTS, "mac_address": _TEXT, "driver_opts": _OPTIONS, "priority": _INTEGER,
        "gw_priority": _INTEGER,
    }
)  # fmt: skip

SERVICE = Fields(
    {
        "annotations": _Labels(), "attach": _FLAG, "blkio_config": _BLKIO, "build": _BUILD, "cap_add": _TEXTS,
        "cap_drop": _TEXTS, "cgroup": Text("host", "private"), "cgroup_parent": _TEXT, "command": Command(),
        "configs": _FILES, "container_name": Text(pattern=r"[a-zA-Z0-9][a-zA-Z0-9_.-]+"), "cpu_count": _INTEGER,
        "cpu_percent": Number(fraction=True), "cpu_period": _INTEGER, "cpu_quota": _INTEGER, "cpu_rt_period": _WORD,
        "cpu_rt_runtime": _WORD, "cpu_shares": _INTEGER, "cpus": Number(fraction=True), "cpuset": _TEXT,
        "credential_spec": Fields({"config": _TEXT, "file": _TEXT, "registry": _TEXT}), "depends_on": _DEPENDS_ON,
        "deploy": _DEPLOY, "develop": Fields({"watch": _WATCH}), "device_cgroup_rules": _TEXTS,
        "devices": Array(
            Fields({"source": _TEXT, "target": _TEXT, "permissions": _TEXT}, short=_device, finish=_needs("source")),
            key=lambda item: item.get("target"),
        ),
        "dns": _TEXT_OR_TEXTS, "dns_opt": _TEXTS, "dns_search": _TEXT_OR_TEXTS, "domainname": _TEXT,
        "entrypoint": Command(), "env_file": _ENV_FILES, "environment": _VARIABLES, "expose": Array(_WORD),
        "extends": Fields({"service": _TEXT, "file": Path()}, short=lambda v, at, base: {"service": str(v)}),
        "external_links": _TEXTS, "extra_hosts": _Hosts(), "gpus": _Gpus(), "group_add": Array(_WORD),
        "healthcheck": _HEALTHCHECK, "hostname": _TEXT, "image": _TEXT, "init": _FLAG, "ipc": _TEXT,
        "isolation": _TEXT, "label_file": Array(Path(), single=True), "labels": _Labels(), "links": _TEXTS,
        "logging": _Logging({"driver": _TEXT, "options": Table(_Nullable(_WORD))}), "mac_address": _TEXT,
        "mem_limit": _SIZE, "mem_reservation": _SIZE, "mem_swappiness": _INTEGER, "memswap_limit": _SIZE,
        "models": Table(_Nullable(Fields({"endpoint_var": _TEXT, "model_var": _TEXT})), short=_names),
        "network_mode": _TEXT, "networks": Table(_Nullable(_SERVICE_NETWORK), short=_names),
        "oom_kill_disable": _FLAG, "oom_score_adj": _INTEGER, "pid": _Nullable(_TEXT), "pids_limit": _INTEGER,
        "platform": _TEXT, "ports": Array(_Port(), key=_port_key, many=True), "post_start": _HOOKS,
        "pre_start": Array(Fields({**_HOOK_FIELDS, "image": _TEXT, "per_replica": _FLAG})), "pre_stop": _HOOKS,
        "privileged": _FLAG, "profiles": _TEXTS,
        "provider": Fields({"type": _TEXT, "options": Table(Array(_WORD, single=True))}),
        "pull_policy": Text(pattern=r"always|never|build|if_not_present|missing|refresh|daily|weekly|every_\w+"),
        "pull_refresh_after": _TEXT, "read_only": _FLAG,
        "restart": Text(pattern=r"no|always|unless-stopped|on-failure(?::\d+)?"), "runtime": _TEXT,
        "scale": _INTEGER, "secrets": _FILES, "security_opt": _TEXTS, "shm_size": _SIZE, "stdin_open": _FLAG,
        "stop_grace_period": _TIME, "stop_signal": _TEXT, "storage_opt": _OPTIONS, "sysctls": _Labels(),
        "tmpfs": _TEXT_OR_TEXTS, "tty": _FLAG, "ulimits": _ULIMITS, "use_api_socket": _FLAG, "user": _WORD,
        "userns_mode": _TEXT, "uts": _TEXT, "volumes": Array(_Volume(), key=lambda item: item["target"]),
        "volumes_from": _TEXTS, "working_dir": _TEXT,
    }
)  # fmt: skip


class _External(Kind):
    """true, or the old {name: NAME}, which `_outside` makes a name of."""

    def canon(self, value: Any, at: str, base: str | None) -> Any:
        return (
            {"name": _TEXT.canon(value.get("name"), f"{at}.name", base)}
            if isinstance(value, dict)
            else _FLAG.canon(value, at, base)
        )


def _outside(value: JSON, at: str, base: str | None) -> JSON:
    if isinstance(value.get("external"), dict):
        value = {**value, "name": value["external"]["name"], "external": True}
    if value.get("external") and (
        more := [k for k in value if k not in ("name", "external") and not k.startswith("x-")]
    ):
        raise InvalidArgument(f'{at}: conflicting parameters "external" and "{sorted(more)[0]}" specified')
    return value


def _one_source(value: JSON, at: str, base: str | None) -> JSON:
    value = _outside(value, at, base)
    if sum(key in value for key in ("file", "environment", "content", "external")) > 1:
        raise InvalidArgument(f"{at}: file|environment|content attributes are mutually exclusive")
    if not any(key in value for key in ("file", "environment", "content", "external", "driver")):
        raise InvalidArgument(f"{at}: one of file|environment|content must be set")
    return value


_POOL = Fields({"subnet": _TEXT, "ip_range": _TEXT, "gateway": _TEXT, "aux_addresses": _OPTIONS})
_POOLS = Array(_POOL, key=lambda pool: pool.get("subnet"), combine=True)
NETWORK = Fields(
    {
        "name": _TEXT, "driver": _TEXT, "driver_opts": _OPTIONS, "external": _External(), "internal": _FLAG,
        "ipam": Fields({"driver": _TEXT, "config": _POOLS, "options": _OPTIONS}),
        "enable_ipv4": _FLAG, "enable_ipv6": _FLAG, "attachable": _FLAG, "labels": _Labels(),
    },
    finish=_outside,
)  # fmt: skip
VOLUME = Fields(
    {"name": _TEXT, "driver": _TEXT, "driver_opts": _OPTIONS, "external": _External(), "labels": _Labels()},
    finish=_outside,
)
SECRET = Fields(
    {
        "name": _TEXT, "environment": _TEXT, "file": Path(), "external": _External(), "labels": _Labels(),
        "driver": _TEXT, "driver_opts": _OPTIONS, "template_driver": _TEXT,
    },
    finish=_one_source,
)  # fmt: skip
CONFIG = Fields(
    {
        "name": _TEXT, "content": _TEXT, "environment": _TEXT, "file": Path(), "external": _External(),
        "labels": _Labels(), "template_driver": _TEXT,
    },
    finish=_one_source,
)  # fmt: skip
_MODEL = Fields({"name": _TEXT, "model": _TEXT, "context_size": _INTEGER, "runtime_flags": _TEXTS})
_INCLUDE = Array(
    Fields(
        {"path": Array(Path(), single=True), "env_file": Array(Path(), single=True), "project_directory": Path()},
        short=lambda value, at, base: {"path": [Path().canon(value, at, base)]},
    )
)

PROJECT = Fields(
    {
        "version": _WORD, "name": _TEXT, "include": _INCLUDE,
        "services": Table(SERVICE, names=NAME), "models": Table(_MODEL, names=NAME),
        "networks": Table(_Nullable(NETWORK), names=NAME, empty=True),
        "volumes": Table(_Nullable(VOLUME), names=NAME, empty=True),
        "secrets": Table(SECRET, names=NAME, empty=True), "configs": Table(CONFIG, names=NAME, empty=True),
    }
)  # fmt: skip
