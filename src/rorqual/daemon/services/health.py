"""Health checks as the daemon knows them: what the shim is asked to do, and what its results look like.

Pure. The shim runs the probes (rorqual.shim.health); services.healthwatch reads what they gave.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from rorqual.api.config import ContainerConfig, HealthConfig, HostConfig
from rorqual.api.container import Health, HealthcheckResult
from rorqual.daemon.services import clock
from rorqual.daemon.spec import builder
from rorqual.errdefs import InvalidArgument

STARTING, HEALTHY, UNHEALTHY, NONE = "starting", "healthy", "unhealthy", "none"
# Docker's defaults. Source: Dockerfile reference, HEALTHCHECK.
_INTERVAL_S, _TIMEOUT_S, _START_INTERVAL_S, _RETRIES = 30.0, 30.0, 5.0, 3

# Opt-in labels, beyond Docker. Only those given with the container count: an image's drive nothing (CVE-2026-53488).
HTTP_LABEL, TCP_LABEL = "rorqual.health.http", "rorqual.health.tcp"
RESTART_LABEL = "rorqual.health.restart"
_KINDS = frozenset({"CMD", "CMD-SHELL", "HTTP", "TCP"})
_TRUE = frozenset({"1", "true", "yes", "on"})


@dataclass(frozen=True, slots=True)
class Target:
    """Where a network probe goes; `path` is "" for a bare connection."""

    host: str
    port: int
    path: str


def from_labels(labels: Mapping[str, str] | None, given: HealthConfig | None) -> HealthConfig | None:
    """The user's check with the test that the labels ask for. Raises: InvalidArgument."""
    for label, kind in ((HTTP_LABEL, "HTTP"), (TCP_LABEL, "TCP")):
        value = (labels or {}).get(label)
        if value is not None:
            target(kind, value)
            return replace(given or HealthConfig(), test=(kind, value))
    return given


def restarts_unhealthy(labels: Mapping[str, str] | None) -> bool:
    """Whether the user's labels ask for a restart of the container when it is unhealthy."""
    return (labels or {}).get(RESTART_LABEL, "").lower() in _TRUE


def target(kind: str, text: str) -> Target:
    """`http://[host]:port/path`, or `[host:]port` for both kinds; the host is the container's loopback by default.

    Raises: InvalidArgument for another scheme, a name for a host, or no port.
    """

    def bad(reason: str) -> InvalidArgument:
        return InvalidArgument(f"invalid {kind} health check {text!r}: {reason}")

    rest = text
    if "://" in rest:
        scheme, _, rest = rest.partition("://")
        if scheme.upper() != kind:
            raise bad(f"the scheme must be {kind.lower()}")
    if rest.isdigit():
        rest = f":{rest}"
    try:
        parts = urlsplit(f"//{rest}")
        port, host = parts.port, parts.hostname or "127.0.0.1"
    except ValueError as e:
        raise bad(str(e)) from e
    if port is None:
        port = 80 if kind == "HTTP" else 0
    if not port:
        raise bad("no port")
    if host == "localhost":
        host = "127.0.0.1"
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise bad("the host must be an address") from None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "") if kind == "HTTP" else ""
    if any(c <= " " or c > "~" for c in path):
        raise bad("the path must be plain ASCII without spaces")
    return Target(host, port, path)


def enabled(config: HealthConfig | None) -> bool:
    """Whether there is something to run: nothing for ["NONE"], nor (as in dockerd) for a kind that isn't known."""
    test = (config.test if config is not None else None) or ()
    return bool(test) and test[0] in _KINDS


def check(config: HealthConfig | None) -> None:
    """Raises: InvalidArgument with Docker's texts."""
    if config is None:
        return
    for value, what in (
        (config.interval, "Interval"),
        (config.timeout, "Timeout"),
        (config.start_period, "StartPeriod"),
        (config.start_interval, "StartInterval"),
    ):
        if value and value < 1_000_000:
            raise InvalidArgument(f"{what} in Healthcheck cannot be less than 1ms")
    if config.retries < 0:
        raise InvalidArgument("Retries in Healthcheck cannot be negative")
    kind, *rest = config.test or ("",)
    if kind in ("HTTP", "TCP"):
        target(kind, rest[0] if len(rest) == 1 else "")


def task_options(
    config: ContainerConfig, host: HostConfig, hostname: str, ulimits: Mapping[str, tuple[int, int]]
) -> dict[str, Any] | None:
    """What the shim is told (rorqual.shim.health.HealthOptions); None without a check."""
    health = config.healthcheck
    if health is None or not enabled(health):
        return None
    return {
        "probe": _probe(health.test or (), config, host, hostname, ulimits),
        "interval_s": health.interval / 1e9 or _INTERVAL_S,
        "timeout_s": health.timeout / 1e9 or _TIMEOUT_S,
        "start_period_s": health.start_period / 1e9,
        "start_interval_s": health.start_interval / 1e9 or _START_INTERVAL_S,
        "retries": health.retries or _RETRIES,
    }


def _probe(
    test: Sequence[str],
    config: ContainerConfig,
    host: HostConfig,
    hostname: str,
    ulimits: Mapping[str, tuple[int, int]],
) -> dict[str, Any]:
    kind, *rest = test
    if kind in ("HTTP", "TCP"):
        to = target(kind, rest[0] if rest else "")
        return {"kind": kind.lower(), "host": to.host, "port": to.port, "path": to.path}
    if kind == "CMD-SHELL":
        rest = [*(config.shell or ("/bin/sh", "-c")), *rest]
    process = builder.exec_process(
        config,
        host,
        hostname,
        cmd=tuple(rest),
        env=(),
        user="",
        cwd="",
        tty=False,
        privileged=False,
        default_ulimits=ulimits,
    )
    return {"kind": "exec", "process": json.loads(process.to_json())}


def starting(config: ContainerConfig) -> Health | None:
    """The health of a container that has just been started."""
    return Health(STARTING) if enabled(config.healthcheck) else None


def parse_report(data: Mapping[str, Any]) -> Health:
    """The shim's document. Raises: LookupError, TypeError, ValueError for what isn't one."""
    return Health(
        status=str(data["status"]),
        failing_streak=int(data["streak"]),
        log=tuple(
            HealthcheckResult(
                clock.rfc3339(int(r["start"])), clock.rfc3339(int(r["end"])), int(r["exit_code"]), str(r["output"])
            )
            for r in data["log"]
        ),
    )


def ended(health: Health) -> Health:
    """What is shown once nobody probes any more: unhealthy, as dockerd says "for compatibility reasons"."""
    return replace(health, status=UNHEALTHY)
