"""--log-driver and --log-opt: which options a driver takes, what the shim is told, where `logs` reads.

Pure. The drivers themselves run in the shim (rorqual.shim.logdrivers). Texts as moby's daemon/logger.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from rorqual.api.config import ContainerConfig, LogConfig
from rorqual.daemon.configvalues import parse_size
from rorqual.daemon.services import clock
from rorqual.errdefs import InvalidArgument

DRIVERS = ("fluentd", "gelf", "journald", "json-file", "local", "none", "syslog")
JSON_FILE, LOCAL, NONE = "json-file", "local", "none"

_COMMON = frozenset({"env", "env-regex", "labels", "labels-regex", "tag"})
_EVERYWHERE = frozenset({"mode", "max-buffer-size"})
_CACHE = frozenset(f"cache-{name}" for name in ("disabled", "max-size", "max-file", "compress", *_COMMON))
_OWN: dict[str, frozenset[str]] = {
    JSON_FILE: frozenset({"max-size", "max-file", "compress"}),
    LOCAL: frozenset({"max-size", "max-file", "compress"}),
    "journald": frozenset(),
    "syslog": frozenset(
        {"syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert"}
        | {"syslog-tls-key", "syslog-tls-skip-verify"}
    ),
    "gelf": frozenset(
        {"gelf-address", "gelf-compression-level", "gelf-compression-type"}
        | {"gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"}
    ),
    "fluentd": frozenset(
        {"fluentd-address", "fluentd-async", "fluentd-async-reconnect-interval", "fluentd-buffer-limit"}
        | {"fluentd-max-retries", "fluentd-read-timeout", "fluentd-request-ack", "fluentd-retry-wait"}
        | {"fluentd-sub-second-precision", "fluentd-write-timeout"}
    ),
}
_LOCAL_DEFAULTS = (20 << 20, 5, True)  # bytes, files, compressed
_RING_BYTES = 1_000_000
_SHOWN_MAX = 200  # characters of a value in an error
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_FACILITY_NAMES = "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp"
_FACILITIES = frozenset(_FACILITY_NAMES.split()) | {f"local{n}" for n in range(8)}


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose output it is."""

    id: str
    name: str
    image_id: str
    created_ns: int
    path: str
    args: tuple[str, ...]
    config: ContainerConfig


@dataclass(frozen=True, slots=True)
class Source:
    """Where `logs` reads: a file of json-file or local entries; `attrs` are those of every entry of a local one."""

    path: str
    driver: str
    attrs: Mapping[str, str]


# ---- checks ----


def check(log: LogConfig) -> None:
    """Raises: InvalidArgument."""
    driver, options = log.type, log.config
    if driver == NONE:
        return
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidArgument(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != "non-blocking":
            raise InvalidArgument("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
        parse_size("max-buffer-size", options["max-buffer-size"])
    if driver not in DRIVERS:
        raise InvalidArgument(f"logger: no log driver named '{driver}' is registered")
    for name in options.keys() - _COMMON - _EVERYWHERE - _CACHE - _OWN[driver]:
        where = f"log driver {driver}" if driver == LOCAL else f"{driver} log driver"
        raise InvalidArgument(f"unknown log opt '{name}' for {where}")
    _check_patterns(options)
    if own := _CHECKS.get(driver):
        own(options)
    _cache_limits(options)


def _check_patterns(options: Mapping[str, str]) -> None:
    for name in ("env-regex", "labels-regex"):
        try:
            re.compile(options.get(name, ""))
        except (re.error, RecursionError, OverflowError) as e:
            raise InvalidArgument(f"invalid {name} {options[name][:_SHOWN_MAX]!r}: {e}") from e
    if "cache-disabled" in options:
        _boolean("cache-disabled", options["cache-disabled"])


def _boolean(name: str, text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE or not text:
        return False
    raise InvalidArgument(f"invalid value for option {name}: {text}")


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidArgument(f"invalid value for {name}: {text}") from None


_HUMAN = re.compile(r"(\d+(?:\.\d+)?) ?([kKmMgGtTpP])?(?:i?[bB])?\Z")


def human_size(name: str, text: str) -> int:
    """Bytes of `10m`, in powers of ten as Docker reads log sizes. Raises: InvalidArgument."""
    match = _HUMAN.match(text)
    if match is None:
        raise InvalidArgument(f"invalid value for {name}: invalid size: '{text}'")
    try:
        return int(float(match[1]) * 1000 ** ("kmgtp".index(match[2].lower()) + 1 if match[2] else 0))
    except OverflowError:
        raise InvalidArgument(f"invalid value for {name}: invalid size: '{text[:_SHOWN_MAX]}'") from None


def json_file_limits(options: Mapping[str, str]) -> tuple[int, int, bool]:
    """(bytes or -1, files, compressed). Raises: InvalidArgument."""
    size = -1
    if "max-size" in options and options["max-size"] != "-1":
        size = human_size("max-size", options["max-size"])
        if size <= 0:
            raise InvalidArgument("max-size must be a positive number")
    files = _number("max-file", options.get("max-file", "1"))
    if files < 1:
        raise InvalidArgument("max-file cannot be less than 1")
    compress = _boolean("compress", options.get("compress", ""))
    if compress and (files == 1 or size == -1):
        raise InvalidArgument("compress cannot be true when max-file is less than 2 or max-size is not set")
    return size, files, compress


def local_limits(options: Mapping[str, str], prefix: str = "") -> tuple[int, int, bool]:
    """As json_file_limits, with the local driver's defaults. Raises: InvalidArgument."""
    size, files, compress = _LOCAL_DEFAULTS
    if f"{prefix}max-size" in options:
        size = human_size(f"{prefix}max-size", options[f"{prefix}max-size"])
    if f"{prefix}max-file" in options:
        files = _number(f"{prefix}max-file", options[f"{prefix}max-file"])
    if f"{prefix}compress" in options:
        compress = _boolean(f"{prefix}compress", options[f"{prefix}compress"])
    if files < 0:
        raise InvalidArgument("max-file must not be negative")
    if compress and files <= 1:
        raise InvalidArgument("compression cannot be enabled when max file count is 1")
    return size or -1, max(1, files), compress


def _cache_limits(options: Mapping[str, str]) -> tuple[int, int, bool] | None:
    if _boolean("cache-disabled", options.get("cache-disabled", "")):
        return None
    return local_limits(options, "cache-")


def _check_syslog(options: Mapping[str, str]) -> None:
    address = options.get("syslog-address", "")
    if address:
        url = _split(address)
        if url.scheme in ("unix", "unixgram"):
            if not os.path.exists(url.path):
                raise InvalidArgument(f"stat {url.path}: no such file or directory")
        elif url.scheme not in ("udp", "tcp", "tcp+tls"):
            raise InvalidArgument(f"unsupported scheme: '{url.scheme}'")
    facility = options.get("syslog-facility", "")
    if facility and facility not in _FACILITIES and not (facility.isdigit() and int(facility) <= 23):
        raise InvalidArgument("invalid syslog facility")
    if options.get("syslog-format", "") not in ("", "rfc3164", "rfc5424", "rfc5424micro"):
        raise InvalidArgument("Invalid syslog format")


def _check_gelf(options: Mapping[str, str]) -> None:
    address = options.get("gelf-address", "")
    if not address:
        raise InvalidArgument("gelf-address is a required parameter")
    url = _split(address)
    if url.scheme not in ("udp", "tcp"):
        raise InvalidArgument("gelf: endpoint needs to be TCP or UDP")
    if not _port_of(address):
        raise InvalidArgument("gelf: please provide gelf-address as proto://host:port")
    for name in ("gelf-compression-type", "gelf-compression-level"):
        if name not in options:
            continue
        if url.scheme != "udp":
            raise InvalidArgument("compression is only supported on UDP")
        known = ("gzip", "zlib", "none") if name.endswith("type") else tuple(map(str, range(-1, 10)))
        if options[name] not in known:
            raise InvalidArgument(f'unknown value "{options[name]}" for log opt "{name}" for gelf log driver')
    for name in ("gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"):
        if name in options:
            if url.scheme != "tcp":
                raise InvalidArgument(f'"{name}" is only valid for TCP')
            if not options[name].isdigit():
                raise InvalidArgument(f'"{name}" must be a positive integer')


def _split(address: str) -> SplitResult:
    """Raises: InvalidArgument, as of a bracket that is not closed, or a port that is no number."""
    try:
        url = urlsplit(address)
        _ = url.port
    except ValueError as e:
        raise InvalidArgument(f"invalid address {address[:_SHOWN_MAX]!r}: {str(e).lower()}") from e
    return url


def _port_of(address: str) -> int:
    try:
        url = urlsplit(address)
        return url.port or 0 if url.hostname else 0
    except ValueError:
        return 0


def _check_fluentd(options: Mapping[str, str]) -> None:
    address = options.get("fluentd-address", "")
    if address:
        url = _split(address if "://" in address else f"tcp://{address}")
        wrong = ""
        if url.scheme == "unix":
            wrong = "path is empty" if not url.path.lstrip("/") else ""
        elif url.scheme not in ("tcp", "tls"):
            wrong = f"unsupported scheme: '{url.scheme}'"
        elif url.path:
            wrong = "should not contain a path element"
        if wrong:
            raise InvalidArgument(f"invalid fluentd-address ({address}): {wrong}")
    for name in ("fluentd-async", "fluentd-request-ack", "fluentd-sub-second-precision"):
        _boolean(name, options.get(name, ""))
    if options.get("fluentd-buffer-limit"):
        parse_size("fluentd-buffer-limit", options["fluentd-buffer-limit"])
    if options.get("fluentd-max-retries"):
        _number("fluentd-max-retries", options["fluentd-max-retries"])
    for name in ("retry-wait", "async-reconnect-interval", "read-timeout", "write-timeout"):
        if options.get(f"fluentd-{name}"):
            clock.parse_duration(options[f"fluentd-{name}"])


_CHECKS: dict[str, Callable[[Mapping[str, str]], object]] = {
    JSON_FILE: json_file_limits,
    LOCAL: local_limits,
    "syslog": _check_syslog,
    "gelf": _check_gelf,
    "fluentd": _check_fluentd,
}


# ---- what the shim is told ----


def task_options(log: LogConfig, of: Subject, directory: str) -> dict[str, Any]:
    """TaskOptions.log of a container whose files are in `directory`. Raises: InvalidArgument for a bad tag."""
    driver, options = log.type, log.config
    if driver == NONE:
        return {"driver": NONE}
    extra = attributes(options, of.config)
    if driver in (JSON_FILE, LOCAL):
        if options.get("tag"):
            extra["tag"] = tag(options["tag"], of)
        limits = json_file_limits(options) if driver == JSON_FILE else local_limits(options)
        return {"driver": driver, "attrs": extra, **_file(_path(driver, of.id, directory), limits)}
    limit = _cache_limits(options)
    return {
        "driver": driver,
        "attrs": extra,
        "tag": tag(options.get("tag") or "{{.ID}}", of),
        "config": dict(options),
        "mode": options.get("mode") or "blocking",
        "max_buffer_bytes": parse_size("max-buffer-size", options["max-buffer-size"])
        if "max-buffer-size" in options
        else _RING_BYTES,
        "info": {
            "id": of.id,
            "name": of.name,
            "image_id": of.image_id,
            "image": of.config.image,
            "command": " ".join((of.path, *of.args)),
            "created": clock.rfc3339(of.created_ns),
        },
        "cache": None if limit is None else _file(_path(driver, of.id, directory), limit),
    }


def _file(path: str, limits: tuple[int, int, bool]) -> dict[str, Any]:
    return {"path": path, "max_size": limits[0], "max_file": limits[1], "compress": limits[2]}


def source(log: LogConfig, of: Subject, directory: str) -> Source | None:
    """Where the log can be read; None where it cannot."""
    if log.type == NONE or (log.type not in (JSON_FILE, LOCAL) and _cache_limits(log.config) is None):
        return None
    driver = JSON_FILE if log.type == JSON_FILE else LOCAL
    attrs = attributes(log.config, of.config)
    if log.type == LOCAL and log.config.get("tag"):
        attrs["tag"] = tag(log.config["tag"], of)
    return Source(_path(log.type, of.id, directory), driver, attrs)


def json_path(log: LogConfig, id: str, directory: str) -> str:
    """What inspect shows: the json-file's path, "" for other drivers."""
    return _path(JSON_FILE, id, directory) if log.type == JSON_FILE else ""


def _path(driver: str, id: str, directory: str) -> str:
    if driver == JSON_FILE:
        return f"{directory}/{id}-json.log"
    return f"{directory}/local-logs/container{'' if driver == LOCAL else '-cached'}.log"


def attributes(options: Mapping[str, str], config: ContainerConfig) -> dict[str, str]:
    """The labels and variables that every entry carries."""
    labels = config.labels or {}
    env = dict(entry.partition("=")[::2] for entry in config.env or () if "=" in entry)
    found: dict[str, str] = {}
    for option, values in (("labels", labels), ("env", env)):
        names = [n for n in options.get(option, "").split(",") if n in values]
        if pattern := options.get(f"{option}-regex"):
            names += [n for n in values if re.search(pattern, n)]
        found |= {name: values[name] for name in names}
    return found


_ACTION = re.compile(r"\{\{\s*(?:\.(\w+)|\(\.ExtraAttributes nil\)\.(\w+))\s*\}\}")


def tag(template: str, of: Subject) -> str:
    """The tag option's text with its actions done: {{.Name}}, {{.ImageName}}, {{(.ExtraAttributes nil).NAME}} ...

    Raises: InvalidArgument for any other action.
    """
    image_hex = of.image_id.removeprefix("sha256:")
    env = dict(entry.partition("=")[::2] for entry in of.config.env or ())
    values = {
        "ID": of.id[:12],
        "FullID": of.id,
        "Name": of.name,
        "ImageID": image_hex[:12],
        "ImageFullID": of.image_id,
        "ImageName": of.config.image,
        "Command": " ".join((of.path, *of.args)),
        "DaemonName": "docker",
    }

    def value(match: re.Match[str]) -> str:
        field, attribute = match.groups()
        if attribute is not None:
            return env.get(attribute) or (of.config.labels or {}).get(attribute) or "<no value>"
        if field == "Hostname":
            return socket.gethostname()
        if field not in values:
            raise InvalidArgument(f'invalid tag "{template}": can\'t evaluate field {field} in type logger.Info')
        return values[field]

    text = _ACTION.sub(value, template)
    if "{{" in text:
        raise InvalidArgument(f'invalid tag "{template}": unsupported template action')
    return text
