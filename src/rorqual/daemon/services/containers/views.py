"""What list and inspect show. Pure: from records to wire types."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from rorqual.api.container import (
    ContainerInspect,
    ContainerState,
    ContainerSummary,
    DriverData,
    Health,
    NetworkSettings,
    PortSummary,
    SummaryHostConfig,
    SummaryNetworkSettings,
)
from rorqual.api.network import EndpointSettings
from rorqual.daemon.services import clock
from rorqual.daemon.services.containers import links
from rorqual.daemon.services.containers import state as states
from rorqual.daemon.services.containers.networking import HOST, SANDBOX, Networking, kind_of
from rorqual.daemon.services.containers.ports import parse_port
from rorqual.daemon.services.containers.record import Container
from rorqual.daemon.services.containers.registry import Registry
from rorqual.daemon.services.filters import Filters
from rorqual.errdefs import InvalidArgument, NotFound

_FILTER_NAMES = (
    "ancestor before exited expose health id is-task isolation label name network publish since status volume"
)
FILTER_KEYS = frozenset(_FILTER_NAMES.split())


def status_text(state: states.State, now_ns: int, health: Health | None = None) -> str:
    """`Up 3 seconds`, `Up 3 seconds (healthy)`, `Exited (0) 2 minutes ago`."""
    if state.status == states.CREATED:
        return "Created"
    if state.running:
        up = f"Up {clock.duration((now_ns - state.started_ns) / 1e9)}"
        if state.status == states.PAUSED:
            return f"{up} (Paused)"
        if health is None:
            return up
        return f"{up} (health: starting)" if health.status == "starting" else f"{up} ({health.status})"
    ago = clock.duration((now_ns - state.finished_ns) / 1e9)
    if state.status == states.RESTARTING:
        return f"Restarting ({state.exit_code}) {ago} ago"
    if state.status == states.REMOVING:
        return "Removal In Progress"
    if state.status == states.DEAD:
        return "Dead"
    return f"Exited ({state.exit_code}) {ago} ago"


def summary(container: Container, image_name: str, now_ns: int, given: Sequence[str] = ()) -> ContainerSummary:
    """The list's entry; `given` are names that links give it."""
    return ContainerSummary(
        id=container.id,
        names=(f"/{container.name}", *given),
        image=image_name,
        image_id=container.image_id,
        command=_command(container.path, container.args),
        created=container.created_ns // 10**9,
        ports=_ports(container),
        labels=container.config.labels or {},
        state=container.state.status,
        status=status_text(container.state, now_ns, container.health),
        host_config=SummaryHostConfig(container.host.network_mode, container.host.annotations),
        network_settings=SummaryNetworkSettings(_networks(container)),
        mounts=container.mounts,
    )


def _command(path: str, args: Sequence[str]) -> str:
    if not args:
        return path
    quoted = [f"'{a}'" if any(c in " \t\n" for c in a) else a for a in args]
    return f"{path} {' '.join(quoted)}"


def _ports(container: Container) -> tuple[PortSummary, ...]:
    found: list[PortSummary] = []
    for key, bindings in container.ports.items():
        number, _, proto = key.partition("/")
        found += [PortSummary(b.host_ip, int(number), int(b.host_port or 0), proto) for b in bindings or ()]
        if not bindings:
            found.append(PortSummary("", int(number), 0, proto))
    return tuple(found)


def _networks(container: Container) -> dict[str, EndpointSettings]:
    if container.networks:
        return container.networks
    kind = kind_of(container)
    if kind == SANDBOX:
        return container.endpoints
    return {container.host.network_mode: EndpointSettings()} if kind != "container" else {}


def inspect(container: Container, networking: Networking, registry: Registry, log_path: str) -> ContainerInspect:
    """The whole of it."""
    try:
        hostname, hosts, resolv = networking.files(container)
    except NotFound:
        hostname = hosts = resolv = ""  # the container whose network it shares is gone
    running_execs = tuple(e.id for e in container.execs.values() if e.running)
    return ContainerInspect(
        id=container.id,
        created=clock.rfc3339(container.created_ns),
        path=container.path,
        args=container.args,
        state=_state(container.state, container.health),
        image=container.image_id,
        resolv_conf_path=resolv,
        hostname_path=hostname,
        hosts_path=hosts,
        log_path=log_path,
        name=f"/{container.name}",
        restart_count=container.restarts,
        driver=container.snapshotter,
        platform=container.platform,
        exec_ids=running_execs or None,
        host_config=replace(container.host, links=links.shown(container, registry)),
        graph_driver=DriverData(container.snapshotter, None),
        mounts=container.mounts,
        config=container.config,
        network_settings=_network_settings(container),
    )


def _state(state: states.State, health: Health | None) -> ContainerState:
    return ContainerState(
        status=state.status,
        running=state.running or state.status == states.RESTARTING,
        paused=state.status == states.PAUSED,
        restarting=state.status == states.RESTARTING,
        oom_killed=state.oom_killed,
        dead=state.status == states.DEAD,
        pid=state.pid,
        exit_code=state.exit_code,
        error=state.error,
        started_at=clock.rfc3339(state.started_ns),
        finished_at=clock.rfc3339(state.finished_ns),
        health=health,
    )


def _network_settings(container: Container) -> NetworkSettings:
    networks = _networks(container)
    running = container.state.running
    kind = kind_of(container)
    key = ""
    if running and kind in (SANDBOX, HOST):
        key = f"/proc/{container.state.pid}/ns/net"
    bridge = networks.get("bridge") or EndpointSettings()
    return NetworkSettings(
        sandbox_id=container.id if running else "",
        sandbox_key=key,
        ports=container.ports,
        endpoint_id=bridge.endpoint_id,
        gateway=bridge.gateway,
        ip_address=bridge.ip_address,
        ip_prefix_len=bridge.ip_prefix_len,
        mac_address=bridge.mac_address,
        ipv6_gateway=bridge.ipv6_gateway,
        global_ipv6_address=bridge.global_ipv6_address,
        global_ipv6_prefix_len=bridge.global_ipv6_prefix_len,
        networks=networks,
    )


class Listing:
    """GET /containers/json: filters, order and limit. Source: Engine API 1.56, ContainerList."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def select(self, filters: Filters, *, everything: bool, limit: int) -> list[Container]:
        """The newest first. Raises: InvalidArgument, NotFound for before and since."""
        everything = everything or limit > 0 or "status" in filters or "exited" in filters
        bounds = {key: self._bound(filters, key) for key in ("before", "since") if key in filters}
        self._check(filters)
        found = [c for c in self._registry if self._passes(c, filters, bounds, everything=everything)]
        found.sort(key=lambda c: c.created_ns, reverse=True)
        return found[:limit] if limit > 0 else found

    def _bound(self, filters: Filters, key: str) -> int:
        try:
            return self._registry.get(filters.get(key)[0]).created_ns
        except NotFound as e:
            raise InvalidArgument(f"invalid filter '{key}': {e}") from e

    def _check(self, filters: Filters) -> None:
        for status in filters.get("status"):
            if status not in states.ALL:
                raise InvalidArgument(f"invalid filter 'status={status}'")
        for code in filters.get("exited"):
            if not code.lstrip("-").isdigit():
                raise InvalidArgument(f"invalid filter 'exited={code}'")

    def _passes(self, c: Container, filters: Filters, bounds: dict[str, int], *, everything: bool) -> bool:
        if not everything and not c.state.running and c.state.status != states.RESTARTING:
            return False
        if not filters:
            return True
        if "before" in bounds and c.created_ns >= bounds["before"]:
            return False
        if "since" in bounds and c.created_ns <= bounds["since"]:
            return False
        if not filters.prefix("id", c.id) or not filters.one_of("status", c.state.status):
            return False
        if "name" in filters and not (filters.pattern("name", c.name) or filters.pattern("name", f"/{c.name}")):
            return False
        if not filters.labels("label", c.config.labels):
            return False
        if "exited" in filters:
            ended = c.state.started_ns and not c.state.running
            if not ended or str(c.state.exit_code) not in filters.get("exited"):
                return False
        return self._passes_more(c, filters)

    def _passes_more(self, c: Container, filters: Filters) -> bool:
        if not filters.one_of("health", c.health.status if c.health else "none"):
            return False
        if "ancestor" in filters and not _is_ancestor(c, filters.get("ancestor")):
            return False
        if "volume" in filters:
            names = {v for m in c.mounts for v in (m.name, m.destination, m.source) if v}
            if not names & set(filters.get("volume")):
                return False
        if "network" in filters:
            names = set(_networks(c)) | {s.network_id for s in c.networks.values()}
            if not any(
                v in names or any(i.startswith(v) for i in names if len(i) == 64) for v in filters.get("network")
            ):
                return False
        for key in ("publish", "expose"):
            if key in filters and not _port_matches(c, filters.get(key), published=key == "publish"):
                return False
        return True


def _is_ancestor(c: Container, values: Iterable[str]) -> bool:
    for value in values:
        bare = value.removeprefix("sha256:")
        if len(bare) >= 4 and c.image_id.removeprefix("sha256:").startswith(bare):
            return True
        name = c.config.image
        if value == name or (":" not in value.rpartition("/")[2] and name in (value, f"{value}:latest")):
            return True
        if value == f"{name}:latest":
            return True
    return False


def _port_matches(c: Container, values: Iterable[str], *, published: bool) -> bool:
    wanted = {f"{port}/{proto}" for v in values for port, proto in parse_port(v)}
    if not published:
        return bool(wanted & {*c.ports, *(c.config.exposed_ports or {})})
    have = {f"{b.host_port}/{key.partition('/')[2]}" for key, bs in c.ports.items() for b in bs or ()}
    return bool(wanted & (have | {key for key, bs in c.ports.items() if bs}))
