"""What list and inspect show. Pure: from records to wire types."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

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
_HEALTH = ("none", "starting", "healthy", "unhealthy")


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


def made_of(container: Container, image_name: str, now_ns: int, given: Sequence[str] = ()) -> tuple[object, ...]:
    """What `summary` depends on: its answer is the same while this is equal."""
    return (
        container.name,
        image_name,
        given,
        container.state.status,
        status_text(container.state, now_ns, container.health),
        container.host,
        container.ports,
        container.networks,
        tuple(container.endpoints.items()),  # changed in place
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


class Image(Protocol):
    """One that is here."""

    @property
    def id(self) -> str:
        """Its ID."""


class Named(Image, Protocol):
    """One by its name."""

    @property
    def variants(self) -> Sequence[Image]:
        """It for each platform that is here."""


class Images(Protocol):
    """Which images are here."""

    def lookup(self, text: str) -> Named | None:
        """By name, digest or ID. Raises: InvalidArgument."""

    def children_of(self, id: str) -> Sequence[Image]:
        """Those that were made from it."""


class Listing:
    """GET /containers/json: filters, order and limit. Source: Engine API 1.56, ContainerList."""

    def __init__(self, registry: Registry, images: Images) -> None:
        self._registry = registry
        self._images = images

    def select(self, filters: Filters, *, everything: bool, limit: int) -> list[Container]:
        """The newest first. Raises: InvalidArgument, NotFound for before and since."""
        everything = everything or limit > 0 or "status" in filters
        bounds = {key: self._bound(filters, key) for key in ("before", "since") if key in filters}
        self._check(filters)
        if filters.flag("is-task", False):
            return []  # they are made by a swarm's manager
        ancestors = self._descendants(filters.get("ancestor"))
        found = [
            c
            for c in self._registry
            if self._passes(c, filters, bounds, everything=everything)
            and ("ancestor" not in filters or c.image_id in ancestors)
        ]
        found.sort(key=lambda c: c.created_ns, reverse=True)
        return found[:limit] if limit > 0 else found

    def images_of(self, containers: Iterable[Container]) -> dict[str, str]:
        """What each is shown to be made of, by ID: the name that was given, or the image's ID when it means another."""
        meant: dict[str, frozenset[str]] = {}
        for name in {c.config.image for c in containers}:
            meant[name] = frozenset(image.id for image in self._named(name))
        return {c.id: c.config.image if c.image_id in meant[c.config.image] else c.image_id for c in containers}

    def _named(self, name: str) -> tuple[Image, ...]:
        """The image of that name, for each platform."""
        try:
            found = self._images.lookup(name)
        except InvalidArgument:
            return ()
        return tuple(found.variants) if found is not None else ()

    def _descendants(self, names: Iterable[str]) -> set[str]:
        """The IDs of the images of these names and of all that was made of them here."""
        found: set[str] = set()
        left = [image.id for name in names for image in self._named(name)]
        while left:
            id = left.pop()
            if id not in found:
                found.add(id)
                left += [image.id for image in self._images.children_of(id)]
        return found

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
        for health in filters.get("health"):
            if health not in _HEALTH:
                raise InvalidArgument(f"unrecognized filter value for health: {health}")

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


def _port_matches(c: Container, values: Iterable[str], *, published: bool) -> bool:
    wanted = {f"{port}/{proto}" for v in values for port, proto in parse_port(v)}
    if published:
        return bool(
            wanted & {f"{b.host_port}/{key.partition('/')[2]}" for key, bs in c.ports.items() for b in bs or ()}
        )
    return bool(wanted & set(c.ports))
