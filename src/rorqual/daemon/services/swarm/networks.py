"""A swarm's networks on this engine: found for the API, and made real when the first container needs one here."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address, ip_network
from typing import Protocol

from rorqual.api.network import NetworkCreateRequest, NetworkResource
from rorqual.daemon.services.containers.networking import GATEWAY
from rorqual.daemon.services.swarm.service import Swarm
from rorqual.errdefs import NotFound, PermissionDenied
from rorqual.libnetwork.model import Network, NetworkConfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.swarm.objects import SwarmNetwork

_BRIDGE = "com.docker.network.bridge."
_NAME_MAX = 15  # of an interface


class Local(Protocol):
    """libnetwork's controller."""

    async def networks(self) -> list[Network]:
        """All."""

    async def network(self, name_or_id: str) -> Network:
        """One."""

    async def create_network(self, config: NetworkConfig) -> Network:
        """Make one."""

    async def remove_network(self, name_or_id: str) -> Network:
        """Remove one."""


class SwarmNetworks:
    """All of them, while this engine is a manager; none otherwise."""

    def __init__(self, swarm: Swarm, local: Local, bridge: str) -> None:
        """`bridge` is the engine's default bridge, whose name the gateway's is made of."""
        self._swarm, self._local = swarm, local
        self._interface = f"{bridge[: _NAME_MAX - 2]}gw"
        self._lock = asyncio.Lock()

    def all(self) -> list[NetworkResource]:
        """As the API shows them."""
        return [network.resource for network in self._swarm.manager.networks.all()] if self._swarm.active else []

    def find(self, reference: str) -> NetworkResource | None:
        """By id, name, or start of an id."""
        found = self._found(reference)
        return found.resource if found is not None else None

    def _found(self, reference: str) -> SwarmNetwork | None:
        return self._swarm.manager.networks.find(reference) if self._swarm.active else None

    async def create(self, wanted: NetworkCreateRequest) -> NetworkResource:
        """Raises: as NetworkManager.create, Unavailable outside of a swarm."""
        return (await self._swarm.manager.networks.create(wanted)).resource

    def check_removable(self, network: Network) -> None:
        """Raises: Unavailable for this host's part of a swarm's network while the swarm cannot be told: it would come
        back. One that was left behind by a swarm is anybody's to remove."""
        if network.scope == "swarm" and self._swarm.joined:
            self._swarm.manager.networks.all()

    async def remove(self, id: str) -> None:
        """Raises: PermissionDenied while a container here is on it, NotFound."""
        manager = self._swarm.manager
        found = manager.networks.find(id)
        if found is None:
            raise NotFound(f"network {id} not found")
        async with self._lock:
            if await self._here(id):
                await self._local.remove_network(id)
            await manager.networks.remove(found)

    async def _here(self, id: str) -> bool:
        return any(network.id == id for network in await self._local.networks())

    async def attach(self, reference: str) -> None:
        """Make a swarm's network real here; what is none, or is here, is left alone.

        Raises: PermissionDenied for one that containers cannot be put on by hand.
        """
        found = self._found(reference)
        if found is None:
            return
        resource = found.resource
        if resource.driver == "overlay" and not resource.attachable:
            raise PermissionDenied(
                f"Could not attach to network {resource.name}: rpc error: code = PermissionDenied desc = network "
                f"{resource.name} not manually attachable"
            )
        async with self._lock:
            if not await self._here(resource.id):
                await self._local.create_network(_config(resource))

    async def gateway(self) -> str:
        """The name of the network that leads out, which is made if there is none."""
        async with self._lock:
            if not any(network.name == GATEWAY for network in await self._local.networks()):
                options = {
                    _BRIDGE + "name": self._interface,
                    _BRIDGE + "enable_icc": "false",
                    _BRIDGE + "enable_ip_masquerade": "true",
                }
                await self._local.create_network(NetworkConfig(GATEWAY, options=options))
        return GATEWAY

    async def forget(self) -> None:
        """The engine has left: networks that no container is on go, the others with their last `network rm`."""
        async with self._lock:
            for network in await self._local.networks():
                if network.scope == "swarm":
                    try:
                        await self._local.remove_network(network.id)
                    except PermissionDenied:
                        continue  # a container is on it


def _config(resource: NetworkResource) -> NetworkConfig:
    """What this host's part is made of. The managers have checked the addresses."""
    four = next((c for c in resource.ipam.config if ip_network(c.subnet).version == 4), None)
    six = next((c for c in resource.ipam.config if ip_network(c.subnet).version == 6), None)
    values: dict[str, object] = {}
    for config, suffix in ((four, ""), (six, "6")):
        if config is not None:
            values[f"subnet{suffix}"] = ip_network(config.subnet)
            values[f"gateway{suffix}"] = ip_address(config.gateway)
            values[f"ip_range{suffix}"] = ip_network(config.ip_range) if config.ip_range else None
    auxiliary = {name: a for c in resource.ipam.config for name, a in (c.auxiliary_addresses or {}).items()}
    return NetworkConfig(
        name=resource.name,
        driver=resource.driver,
        enable_ipv4=resource.enable_ipv4,
        enable_ipv6=resource.enable_ipv6,
        aux_addresses=auxiliary,
        internal=resource.internal,
        attachable=resource.attachable,
        config_from=resource.config_from.network,
        options=dict(resource.options),
        labels=dict(resource.labels),
        id=resource.id,
        scope="swarm",
        **values,  # type: ignore[arg-type]  # each of its field's type, by the loop above
    )
