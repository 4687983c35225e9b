"""Networks: what libnetwork has, as the API shows it, and connect/disconnect of containers."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

from rorqual.api.network import (
    IPAM,
    EndpointResource,
    EndpointSettings,
    IPAMConfig,
    NetworkCreateRequest,
    NetworkResource,
)
from rorqual.daemon.services import clock
from rorqual.daemon.services.containers.networking import SANDBOX, Networking, kind_of
from rorqual.daemon.services.containers.registry import Registry
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.filters import Filters
from rorqual.errdefs import Conflict, Error, InvalidArgument, NotFound, PermissionDenied
from rorqual.libnetwork.model import Endpoint, Network, NetworkConfig

FILTER_KEYS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
_DRIVERS = {"none": "null"}


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

    def __init__(self, controller: NetworkSource, networking: Networking, registry: Registry, events: Events) -> None:
        self._controller = controller
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
        for network in await self._controller.networks():
            if kinds and ("builtin" if network.predefined else "custom") not in kinds:
                continue
            if not filters.pattern("name", network.name) or not filters.prefix("id", network.id):
                continue
            if not filters.one_of("driver", driver_of(network)) or not filters.one_of("scope", "local"):
                continue
            if filters.labels("label", network.labels) and await self._dangling(network, filters):
                found.append(resource(network))
        return found

    async def _dangling(self, network: Network, filters: Filters) -> bool:
        if "dangling" not in filters:
            return True
        unused = not network.predefined and not await self._controller.endpoints(network.id)
        return unused == filters.flag("dangling", True)

    async def inspect(self, reference: str) -> NetworkResource:
        """Raises: NotFound."""
        network = await self._controller.network(reference)
        containers: dict[str, EndpointResource] = {}
        for endpoint in await self._controller.endpoints(network.id):
            container = self._registry.by_id(endpoint.sandbox_id)
            containers[endpoint.sandbox_id] = EndpointResource(
                container.name if container else endpoint.name,
                endpoint.id,
                endpoint.mac,
                f"{endpoint.ip}/{endpoint.prefix}" if endpoint.ip else "",
                "",
            )
        return resource(network, containers)

    async def create(self, wanted: NetworkCreateRequest) -> Network:
        """Raises: Conflict, InvalidArgument, NotFound (driver), PermissionDenied (overlap)."""
        if not wanted.name:
            raise InvalidArgument("network name cannot be empty")
        pools = wanted.ipam.config if wanted.ipam else ()
        pool = pools[0] if pools else IPAMConfig()
        try:
            config = NetworkConfig(
                name=wanted.name,
                driver=wanted.driver or "bridge",
                subnet=IPv4Network(pool.subnet) if pool.subnet else None,
                ip_range=IPv4Network(pool.ip_range) if pool.ip_range else None,
                gateway=IPv4Address(pool.gateway) if pool.gateway else None,
                aux_addresses=dict(pool.auxiliary_addresses or {}),
                internal=wanted.internal,
                attachable=wanted.attachable,
                options=dict(wanted.options),
                labels=dict(wanted.labels),
            )
        except ValueError as e:
            raise InvalidArgument(f"invalid network config: {e}") from e
        network = await self._controller.create_network(config)
        self._publish("create", network, {})
        return network

    def _publish(self, action: str, network: Network, more: dict[str, str]) -> None:
        attributes = {"name": network.name, "type": driver_of(network), **more}
        self._events.publish("network", action, network.id, attributes)

    async def remove(self, reference: str) -> None:
        """Raises: NotFound, PermissionDenied."""
        self._publish("destroy", await self._controller.remove_network(reference), {})

    async def prune(self, filters: Filters) -> list[str]:
        """Remove what no container uses; the names."""
        used = {name for c in self._registry for name in c.endpoints}
        removed: list[str] = []
        until = filters.get("until")
        before_ns = clock.parse_when(until[0]) if until else None
        for network in await self._controller.networks():
            if network.predefined or network.name in used or not filters.labels("label", network.labels):
                continue
            if before_ns is not None and network.created_s * 1e9 > before_ns:
                continue
            try:
                await self.remove(network.id)
            except Error:
                continue  # taken into use meanwhile
            removed.append(network.name)
        self._events.publish("network", "prune", "", {"reclaimed": "0"})
        return removed

    async def connect(self, reference: str, container_ref: str, wished: EndpointSettings) -> None:
        """Raises: NotFound, Conflict, PermissionDenied."""
        network = await self._controller.network(reference)
        container = self._registry.get(container_ref)
        if kind_of(container) != SANDBOX:
            raise PermissionDenied(
                "container sharing network namespace with another container or host cannot be connected to any other "
                "network"
            )
        async with container.lock:
            if network.name in container.endpoints:
                raise Conflict(f"endpoint with name {container.name} already exists in network {network.name}")
            if container.state.running:
                await self._networking.join(container, network.name, wished)
            container.endpoints[network.name] = wished
            await self._registry.save(container)
        self._publish("connect", network, {"container": container.id})

    async def disconnect(self, reference: str, container_ref: str, *, force: bool) -> None:
        """Raises: NotFound, Conflict, PermissionDenied."""
        network = await self._controller.network(reference)
        container = self._registry.get(container_ref)
        async with container.lock:
            if network.name not in container.endpoints:
                raise NotFound(f"container {container.id} is not connected to network {network.name}")
            if container.state.running:
                await self._networking.leave(container, network.name, force=force)
            container.endpoints.pop(network.name)
            await self._registry.save(container)
        self._publish("disconnect", network, {"container": container.id})


def driver_of(network: Network) -> str:
    """`none`'s driver is called null."""
    return _DRIVERS.get(network.driver, network.driver)


def resource(network: Network, containers: dict[str, EndpointResource] | None = None) -> NetworkResource:
    """As the API shows it."""
    pools: tuple[IPAMConfig, ...] = ()
    if network.subnet is not None:
        pools = (
            IPAMConfig(
                str(network.subnet),
                str(network.ip_range) if network.ip_range else "",
                str(network.gateway) if network.gateway else "",
                dict(network.aux_addresses) or None,
            ),
        )
    options = dict(network.options)
    if network.name == "bridge":
        options = {
            "com.docker.network.bridge.default_bridge": "true",
            "com.docker.network.bridge.enable_icc": str(network.icc).lower(),
            "com.docker.network.bridge.enable_ip_masquerade": str(network.ip_masq).lower(),
            "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
            "com.docker.network.bridge.name": network.interface,
            "com.docker.network.driver.mtu": str(network.mtu),
            **options,
        }
    return NetworkResource(
        name=network.name,
        id=network.id,
        created=clock.rfc3339(int(network.created_s * 1e9)),
        scope="local",
        driver=driver_of(network),
        enable_ipv4=True,
        ipam=IPAM("default", None, pools),
        internal=network.internal,
        attachable=network.attachable,
        containers=containers or {},
        options=options,
        labels=dict(network.labels),
    )
