"""A swarm's networks: names, subnets, VXLAN numbers. What they are in the kernel is each node's own business."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from rorqual.api.network import IPAM, ConfigReference, IPAMConfig, NetworkCreateRequest, NetworkResource
from rorqual.errdefs import Conflict, InvalidArgument, NotFound, PermissionDenied, ResourceExhausted
from rorqual.swarm import objects
from rorqual.swarm.identity import new_id
from rorqual.swarm.manager.cluster import ClusterManager
from rorqual.swarm.objects import SwarmNetwork
from rorqual.swarm.store.state import State, Stored

INGRESS = "ingress"
VXLAN_IDS = "com.docker.network.driver.overlay.vxlanid_list"
_FIRST_VNI, _LAST_VNI = 4096, (1 << 24) - 1
_NAME = re.compile(r"[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*")
_NAME_MAX = 63
_DRIVERS = ("overlay", "bridge", "host", "macvlan", "ipvlan", "null")

Subnet = IPv4Network | IPv6Network


class NetworkManager:
    """Makes, finds and removes them."""

    def __init__(self, state: State, cluster: ClusterManager, now: Callable[[], str]) -> None:
        self._state, self._cluster, self._now = state, cluster, now

    def all(self) -> list[SwarmNetwork]:
        """Oldest first."""
        found = [objects.read(SwarmNetwork, stored) for stored in self._state.all(objects.NETWORK)]
        return sorted(found, key=lambda network: network.resource.created)

    def find(self, reference: str) -> SwarmNetwork | None:
        """By id, name, or start of an id. Raises: InvalidArgument when ambiguous."""
        stored = self._stored(reference)
        return objects.read(SwarmNetwork, stored) if stored is not None else None

    def _stored(self, reference: str) -> Stored | None:
        found = self._state.get(objects.NETWORK, reference) or self._state.named(objects.NETWORK, reference)
        if found is not None or not reference:
            return found
        matching = [s for s in self._state.all(objects.NETWORK) if s.id.startswith(reference)]
        if len(matching) > 1:
            raise InvalidArgument(f"network {reference} is ambiguous ({len(matching)} matches found on ID prefix)")
        return matching[0] if matching else None

    async def create(self, wanted: NetworkCreateRequest) -> SwarmNetwork:
        """Raises: InvalidArgument, Conflict (name, ingress), PermissionDenied (overlap), ResourceExhausted."""
        driver = wanted.driver or "overlay"
        if not _NAME.fullmatch(wanted.name) or len(wanted.name) > _NAME_MAX:
            raise InvalidArgument("name must be valid as a DNS name component")
        if driver not in _DRIVERS:
            raise InvalidArgument(f"network driver {driver} cannot be used in a swarm")
        if self._state.named(objects.NETWORK, wanted.name) is not None:
            raise Conflict(f"network with name {wanted.name} already exists")
        if wanted.ingress:
            self._check_ingress(wanted, driver)
        overlay = driver == "overlay"
        network = SwarmNetwork(
            NetworkResource(
                name=wanted.name,
                id=new_id(),
                created=self._now(),
                scope="swarm",
                driver=driver,
                enable_ipv4=wanted.enable_ipv4 is not False,
                enable_ipv6=bool(wanted.enable_ipv6),
                internal=wanted.internal,
                attachable=wanted.attachable,
                ingress=wanted.ingress,
                config_from=wanted.config_from or ConfigReference(),
                ipam=self._ipam(wanted) if overlay else wanted.ipam or IPAM("default"),
                options=dict(wanted.options),
                labels=dict(wanted.labels),
            )
        )
        if overlay:
            vni = self._vni(wanted.options.get(VXLAN_IDS, ""))
            options = {**network.resource.options, VXLAN_IDS: str(vni)}
            network = SwarmNetwork(replace(network.resource, options=options), vni)
        resource = network.resource
        await self._state.commit(put=[objects.stored(objects.NETWORK, resource.id, network, name=resource.name)])
        return network

    def _check_ingress(self, wanted: NetworkCreateRequest, driver: str) -> None:
        had = next((network.resource for network in self.all() if network.resource.ingress), None)
        if had is not None:
            raise Conflict(f"ingress network ({had.id}) is already present")
        if driver != "overlay":
            raise InvalidArgument("ingress network must be of driver overlay")
        if wanted.attachable:
            raise InvalidArgument("ingress network cannot be attachable")
        if wanted.internal:
            raise InvalidArgument("ingress network cannot be internal")

    async def remove(self, network: SwarmNetwork) -> None:
        """Raises: NotFound when it is gone already."""
        stored = self._state.get(objects.NETWORK, network.resource.id)
        if stored is None:
            raise NotFound(f"network {network.resource.id} not found")
        await self._state.commit(delete=[stored])

    # --- what each gets of its own

    def _vni(self, wanted: str) -> int:
        """Raises: InvalidArgument, Conflict, ResourceExhausted."""
        taken = {network.vni for network in self.all()}
        if wanted:
            if not re.fullmatch(r"[0-9]{1,8}", wanted) or not 0 < int(wanted) <= _LAST_VNI:
                raise InvalidArgument(f"invalid vxlan id value {wanted!r} passed")
            if int(wanted) in taken:
                raise Conflict(f"vxlan id {wanted} is in use")
            return int(wanted)
        free = next((vni for vni in range(_FIRST_VNI, _LAST_VNI + 1) if vni not in taken), None)
        if free is None:
            raise ResourceExhausted("no vxlan id is free")
        return free

    def _ipam(self, wanted: NetworkCreateRequest) -> IPAM:
        ipam = wanted.ipam or IPAM()
        if ipam.driver not in ("", "default"):
            raise InvalidArgument(f"IPAM driver {ipam.driver} cannot be used in a swarm")
        taken = self._subnets()
        configs: list[IPAMConfig] = []
        for config in ipam.config:
            made, subnet = _checked(config, taken)
            taken.append(subnet)
            configs.append(made)
        four = wanted.enable_ipv4 is not False
        if four and not any("." in config.subnet for config in configs):
            subnet = self._free_subnet(taken)
            configs.insert(0, IPAMConfig(str(subnet), "", str(subnet[1])))
        if wanted.enable_ipv6 and not any(":" in config.subnet for config in configs):
            raise InvalidArgument("an IPv6 subnet must be given for a network of a swarm")
        return IPAM("default", dict(ipam.options) if ipam.options else None, tuple(configs))

    def _subnets(self) -> list[Subnet]:
        configs = [config for network in self.all() for config in network.resource.ipam.config]
        return [ip_network(config.subnet) for config in configs if config.subnet]

    def _free_subnet(self, taken: list[Subnet]) -> IPv4Network:
        cluster = self._cluster.get()
        spans = sorted((int(s.network_address), int(s.broadcast_address)) for s in taken if s.version == 4)
        for text in cluster.address_pools:
            pool = IPv4Network(text)
            size = 1 << (32 - cluster.subnet_size)
            start = int(pool.network_address)
            for first, last in spans:
                if last >= start and first < start + size:
                    start = (last // size + 1) * size
            if start + size - 1 <= int(pool.broadcast_address):
                return IPv4Network((start, cluster.subnet_size))
        raise ResourceExhausted("failed to find an available IP subnet in the swarm's address pools")


def _checked(config: IPAMConfig, taken: list[Subnet]) -> tuple[IPAMConfig, Subnet]:
    """One pool as a user asks for it, its gateway filled in. Raises: InvalidArgument, PermissionDenied."""
    try:
        subnet = ip_network(config.subnet)
    except ValueError:
        raise InvalidArgument(f"invalid subnet {config.subnet}: invalid CIDR block notation") from None
    if any(subnet.version == other.version and subnet.overlaps(other) for other in taken):
        raise PermissionDenied("Pool overlaps with other one on this address space")
    if subnet.num_addresses < 4:
        raise InvalidArgument(f"subnet {subnet} has no room for a gateway and a container")
    addresses = dict(config.auxiliary_addresses or {})
    for text in filter(None, (config.gateway, *addresses.values())):
        try:
            inside = ip_address(text) in subnet
        except ValueError:
            raise InvalidArgument(f"invalid address {text}") from None
        if not inside:
            raise InvalidArgument(f"no matching subnet for address {text}")
    if config.ip_range:
        try:
            part = ip_network(config.ip_range)
        except ValueError:
            raise InvalidArgument(f"invalid ip-range {config.ip_range}: invalid CIDR block notation") from None
        if part.version != subnet.version or not part.subnet_of(subnet):  # type: ignore[arg-type]
            raise InvalidArgument(f"no matching subnet for range {part}")
    return replace(config, gateway=config.gateway or str(subnet[1])), subnet
