"""Networks: what libnetwork has, as the API shows it, and connect/disconnect of containers."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, Protocol

from rorqual.api.container import PortChange
from rorqual.api.network import (
    IPAM,
    ConfigReference,
    EndpointResource,
    EndpointSettings,
    IPAMConfig,
    NetworkCreateRequest,
    NetworkResource,
)
from rorqual.daemon.services import clock
from rorqual.daemon.services.containers import ports
from rorqual.daemon.services.containers.networking import (
    HOST,
    NONE,
    SANDBOX,
    Networking,
    check_wished,
    kind_of,
)
from rorqual.daemon.services.containers.record import Container
from rorqual.daemon.services.containers.registry import Registry
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.filters import Filters
from rorqual.daemon.services.swarm.networks import SwarmNetworks
from rorqual.errdefs import Conflict, Error, InvalidArgument, NotFound, PermissionDenied
from rorqual.libnetwork.model import Endpoint, Network, NetworkConfig, Pool

FILTER_KEYS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
_DRIVERS = {"none": "null"}
_ALIASES = {"default": "bridge", "none": "null"}  # a driver's name as clients give it


class NetworkSource(Protocol):
    """libnetwork's controller."""

    async def networks(self) -> list[Network]:
        """All."""

    async def network(self, name_or_id: str) -> Network:
        """One."""

    async def endpoints(self, name_or_id: str) -> list[Endpoint]:
        """Who is on it."""

    async def create_network(self, config: NetworkConfig) -> Network:
        """Make one."""

    async def remove_network(self, name_or_id: str) -> Network:
        """Remove one."""


class Networks:
    """The API's networks."""

    def __init__(
        self,
        controller: NetworkSource,
        swarm: SwarmNetworks,
        networking: Networking,
        registry: Registry,
        events: Events,
    ) -> None:
        self._controller = controller
        self._swarm = swarm
        self._networking = networking
        self._registry = registry
        self._events = events

    async def summaries(self, filters: Filters) -> list[NetworkResource]:
        """Those that pass the filters. Raises: InvalidArgument."""
        found: list[NetworkResource] = []
        kinds = filters.get("type")
        for kind in kinds:
            if kind not in ("builtin", "custom"):
                raise InvalidArgument(f"invalid filter: 'type'='{kind}'")
        local: dict[str, Network] = {network.id: network for network in await self._controller.networks()}
        # One of a swarm may be here too: it is one network, as its managers have it.
        shown = {id: resource(network) for id, network in local.items()} | {n.id: n for n in self._swarm.all()}
        for network in shown.values():
            predefined = network.id in local and local[network.id].predefined
            if kinds and ("builtin" if predefined else "custom") not in kinds:
                continue
            if not filters.pattern("name", network.name) or not filters.prefix("id", network.id):
                continue
            if not filters.one_of("driver", network.driver) or not filters.one_of("scope", network.scope):
                continue
            if not filters.labels("label", network.labels):
                continue
            if "dangling" in filters:
                used = network.id in local and await self._controller.endpoints(network.id)
                if filters.flag("dangling", True) != (not predefined and not used):
                    continue
            found.append(network)
        return found

    async def inspect(self, reference: str, scope: str = "") -> NetworkResource:
        """Raises: NotFound, also for one of another scope than asked for."""
        shared = self._swarm.find(reference)
        if shared is not None and scope in ("", "swarm"):
            if not any(network.id == shared.id for network in await self._controller.networks()):
                return shared
            network = await self._controller.network(shared.id)
        else:
            shared = None
            network = await self._controller.network(reference)
            if scope not in ("", network.scope):
                raise NotFound(f"network {reference} not found")
        containers: dict[str, EndpointResource] = {}
        for endpoint in await self._controller.endpoints(network.id):
            container = self._registry.by_id(endpoint.sandbox_id)
            containers[endpoint.sandbox_id] = EndpointResource(
                container.name if container else endpoint.name,
                endpoint.id,
                endpoint.mac,
                f"{endpoint.ip}/{endpoint.prefix}" if endpoint.ip else "",
                f"{endpoint.ip6}/{endpoint.prefix6}" if endpoint.ip6 else "",
            )
        return replace(shared, containers=containers) if shared is not None else resource(network, containers)

    async def create(self, wanted: NetworkCreateRequest) -> str:
        """Its id. Raises: Conflict, InvalidArgument, NotFound (driver), PermissionDenied (overlap), Unavailable (no
        swarm)."""
        if not wanted.name.strip():
            raise InvalidArgument("network name cannot be empty")
        if wanted.scope not in ("", "local", "swarm"):
            raise InvalidArgument(f"invalid network scope: {wanted.scope}")
        if wanted.driver == "overlay" or wanted.scope == "swarm" or wanted.ingress:
            if wanted.scope == "local":
                raise InvalidArgument(f"a network of driver {wanted.driver} cannot be of scope local")
            if any(network.name == wanted.name for network in await self._controller.networks()):
                raise Conflict(f"network with name {wanted.name} already exists")
            shared = await self._swarm.create(wanted)
            self._tell("create", shared)
            return shared.id
        if any(network.name == wanted.name for network in self._swarm.all()):
            raise Conflict(f"network with name {wanted.name} already exists")
        network = await self._controller.create_network(_config(wanted))
        self._publish("create", network, {})
        return network.id

    def _publish(self, action: str, network: Network, more: dict[str, str]) -> None:
        attributes = {"name": network.name, "type": driver_of(network), **more}
        self._events.publish("network", action, network.id, attributes)

    def _tell(self, action: str, network: NetworkResource) -> None:
        attributes = {"name": network.name, "type": network.driver}
        self._events.publish("network", action, network.id, attributes, "swarm")

    async def remove(self, reference: str) -> None:
        """Raises: NotFound, PermissionDenied."""
        shared = self._swarm.find(reference)
        if shared is not None:
            await self._swarm.remove(shared.id)
            self._tell("destroy", shared)
            return
        self._swarm.check_removable(await self._controller.network(reference))
        self._publish("destroy", await self._controller.remove_network(reference), {})

    async def prune(self, filters: Filters) -> list[str]:
        """Remove what no container uses; the names."""
        used = {name for c in self._registry for name in c.endpoints}
        removed: list[str] = []
        until = filters.get("until")
        before_ns = clock.parse_when(until[0]) if until else None
        for network in await self.summaries(Filters({"type": ("custom",)})):
            if network.ingress or network.name in used or network.id in used or not filters.prunable(network.labels):
                continue
            if before_ns is not None and clock.parse_rfc3339(network.created) > before_ns:
                continue
            try:
                await self.remove(network.id)
            except Error:
                continue  # taken into use meanwhile
            removed.append(network.name)
        self._events.publish("network", "prune", "", {"reclaimed": "0"})
        return removed

    async def connect(self, reference: str, container_ref: str, wished: EndpointSettings) -> None:
        """Raises: NotFound, InvalidArgument, PermissionDenied."""
        await self._swarm.attach(reference)
        network = await self._controller.network(reference)
        container = self._registry.get(container_ref)
        _check_kind(container)
        check_wished(network, wished)
        async with self._registry.held(container):
            if network.name in container.endpoints or network.id in container.endpoints:
                raise PermissionDenied(f"endpoint with name {container.name} already exists in network {network.name}")
            if container.state.running:
                container.endpoints[network.name] = wished
                try:
                    await self._networking.join(container, network.name, wished)
                except BaseException:
                    del container.endpoints[network.name]
                    raise
            container.endpoints[network.name] = wished
            await self._registry.save(container)
        self._publish("connect", network, {"container": container.id})

    async def disconnect(self, reference: str, container_ref: str, *, force: bool) -> None:
        """Raises: NotFound, PermissionDenied."""
        network = await self._controller.network(reference)
        container = self._registry.get(container_ref)
        if network.name == "host" or kind_of(container) == HOST:
            raise PermissionDenied("container cannot be disconnected from host network or connected to host network")
        async with self._registry.held(container):
            key = next((n for n in (network.name, network.id) if n in container.endpoints), "")
            if not key:
                raise PermissionDenied(f"container {container.id} is not connected to network {network.name}")
            if container.state.running:
                await self._networking.leave(container, network.name, force=force)
            container.endpoints.pop(key)
            await self._registry.save(container)
        self._publish("disconnect", network, {"container": container.id})

    async def change_ports(self, container_ref: str, change: PortChange) -> None:
        """Publish and close ports of a container, while it runs and for its next starts; all or nothing.

        Raises: NotFound (container, or a port that is not published), InvalidArgument, Conflict, Internal (taken).
        """
        container = self._registry.get(container_ref)
        if kind_of(container) != SANDBOX:
            raise InvalidArgument("ports can only be published for a container that has a network of its own")
        add, remove = ports.from_api(change.add), ports.from_api(change.remove)
        async with self._registry.held(container):
            if container.removing:
                raise Conflict(f"cannot update container {container.id}: container is marked for removal")
            wanted = ports.changed(container.host.port_bindings or {}, change.add, change.remove)
            if container.state.running:
                await self._networking.change_ports(container, add, remove)
            container.host = replace(container.host, port_bindings=wanted)
            await self._registry.save(container)
        self._events.publish("container", "update", container.id, container.event_attributes())


def _check_kind(container: Container) -> None:
    """Raises: PermissionDenied for a container that has no network stack of its own to be connected."""
    kind = kind_of(container)
    if kind == HOST:
        raise PermissionDenied("container cannot be disconnected from host network or connected to host network")
    if kind == NONE:
        raise PermissionDenied(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )
    if kind != SANDBOX:
        raise PermissionDenied(
            "container sharing network namespace with another container or host cannot be connected to any other "
            "network"
        )


def _config(wanted: NetworkCreateRequest) -> NetworkConfig:
    """The request as libnetwork's. Raises: InvalidArgument with all that is wrong with its pools."""
    ipam = wanted.ipam or IPAM()
    values: dict[str, Any] = {}
    auxiliary: dict[str, str] = {}
    more: list[Pool] = []
    for pool in ipam.config:
        parsed = _pool(pool)
        six = any(getattr(value, "version", 4) == 6 for value in parsed.values())
        keys = {f"{key}{'6' if six else ''}": value for key, value in parsed.items()}
        if "subnet" in parsed and f"subnet{'6' if six else ''}" in values:
            more.append(Pool(**parsed))
        else:
            values |= keys
        auxiliary |= pool.auxiliary_addresses or {}
    if not wanted.enable_ipv6:  # Docker passes over pools of a family that is off
        values = {key: value for key, value in values.items() if not key.endswith("6")}
        more = [pool for pool in more if pool.subnet.version == 4]
    return NetworkConfig(
        name=wanted.name,
        driver=_ALIASES.get(wanted.driver, wanted.driver) or "bridge",
        enable_ipv4=wanted.enable_ipv4 is not False,
        enable_ipv6=bool(wanted.enable_ipv6),
        aux_addresses=auxiliary,
        ipam_driver=ipam.driver or "default",
        ipam_options=dict(ipam.options or {}),
        internal=wanted.internal,
        attachable=wanted.attachable,
        config_only=wanted.config_only,
        more_pools=tuple(more),
        config_from=wanted.config_from.network if wanted.config_from else "",
        options=dict(wanted.options),
        labels=dict(wanted.labels),
        **values,
    )


def _pool(pool: IPAMConfig) -> dict[str, Any]:
    """Its addresses, those given. Raises: InvalidArgument in Docker's words."""
    found: dict[str, Any] = {}
    for key, text, what in (("subnet", pool.subnet, "subnet"), ("ip_range", pool.ip_range, "ip-range")):
        if not text:
            continue
        try:
            found[key] = ip_network(text, strict=False)
        except ValueError:
            raise InvalidArgument(
                f"invalid network config:\ninvalid {what} {text}: invalid CIDR block notation"
            ) from None
        if ip_interface(text).ip != found[key].network_address:
            raise InvalidArgument(f"invalid network config:\ninvalid {what} {text}: it should be {found[key]}")
    if pool.gateway:
        try:
            found["gateway"] = ip_address(pool.gateway)
        except ValueError:
            raise InvalidArgument(f"invalid network config:\ninvalid gateway {pool.gateway}: invalid address") from None
        if "subnet" in found and found["gateway"] not in found["subnet"]:
            raise InvalidArgument(
                f"invalid network config:\ninvalid gateway {pool.gateway}: parent subnet is {found['subnet']}"
            )
    return found


def driver_of(network: Network) -> str:
    """`none`'s driver is called null."""
    return _DRIVERS.get(network.driver, network.driver)


def resource(network: Network, containers: dict[str, EndpointResource] | None = None) -> NetworkResource:
    """As the API shows it."""
    pools = []
    for subnet, part, gateway in (
        (network.subnet, network.ip_range, network.gateway),
        (network.subnet6, network.ip_range6, network.gateway6),
        *((pool.subnet, pool.ip_range, pool.gateway) for pool in network.more_pools),
    ):
        if subnet is not None:
            inside = {name: a for name, a in network.aux_addresses.items() if ip_address(a) in subnet}
            pools.append(
                IPAMConfig(str(subnet), str(part) if part else "", str(gateway) if gateway else "", inside or None)
            )
    return NetworkResource(
        name=network.name,
        id=network.id,
        created=clock.rfc3339(int(network.created_s * 1e9)),
        scope=network.scope,
        driver=driver_of(network),
        enable_ipv4=network.enable_ipv4,
        enable_ipv6=network.enable_ipv6,
        ipam=IPAM(network.ipam_driver, dict(network.ipam_options) or None, tuple(pools)),
        internal=network.internal,
        attachable=network.attachable,
        config_from=ConfigReference(network.config_from),
        config_only=network.config_only,
        containers=containers or {},
        options=dict(network.options),
        labels=dict(network.labels),
    )
