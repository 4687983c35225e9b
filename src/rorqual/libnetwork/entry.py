"""A network with what is in use of it: its addresses, how many endpoints there are. Used by the engine's threads."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from rorqual import errdefs
from rorqual.libnetwork.drivers.base import Driver
from rorqual.libnetwork.ipam.allocator import Allocator
from rorqual.libnetwork.ipam.pools import Span, Subnet
from rorqual.libnetwork.ipam.remote import RemoteAllocator
from rorqual.libnetwork.model import Endpoint, Network, Pool

Address = IPv4Address | IPv6Address


@dataclass(slots=True)
class Entry:
    """A network with what is in use of it. `endpoints` counts those that are being made too. `lane` is the plugin that
    changes of it wait for, "" for none."""

    spec: Network
    driver: Driver
    allocator: Allocator | RemoteAllocator | None = None
    allocator6: Allocator | RemoteAllocator | None = None
    endpoints: int = 0
    lane: str = ""
    more: list[tuple[Pool, Allocator]] = field(default_factory=list)
    spans: list[tuple[int, Span]] = field(default_factory=list)  # (IP version, addresses) of each subnet

    def take(self, requested: str, version: int) -> Address | None:
        """An address of that family, the requested one or the next; None where the network has none of it.

        Raises errdefs.InvalidArgument, PermissionDenied when taken, ResourceExhausted.
        """
        first = self.allocator if version == 4 else self.allocator6
        if first is None:
            if requested:
                raise errdefs.InvalidArgument(
                    f"invalid address {requested}: It does not belong to any of this network's subnets"
                )
            return None
        if not requested:
            return self._next(first, version)
        try:
            address = ip_address(requested)
        except ValueError as error:
            raise errdefs.InvalidArgument(f"invalid IPv{version} address: {requested}") from error
        if address.version != version:
            raise errdefs.InvalidArgument(f"invalid IPv{version} address: {requested}")
        self.allocator_of(address, first).request(address)
        return address

    def _next(self, first: Allocator | RemoteAllocator, version: int) -> Address:
        """From the first subnet that has one left."""
        network = f"{self.spec.name} ({self.spec.id})"
        rest = [allocator for pool, allocator in self.more if pool.subnet.version == version]
        for allocator in (first, *rest[:-1]) if rest else ():
            try:
                return allocator.allocate(network)
            except errdefs.ResourceExhausted:
                continue
        return (rest[-1] if rest else first).allocate(network)

    def allocator_of(self, address: Address, first: Allocator | RemoteAllocator) -> Allocator | RemoteAllocator:
        """That of the further subnet which has the address, else the first."""
        further = next((allocator for pool, allocator in self.more if address in pool.subnet), None)
        return further if further is not None else first

    def link_of(self, address: Address | None, version: int) -> tuple[int, str]:
        """The prefix length and gateway ("" for none) of the subnet that the address is of; of the first without."""
        pool = next((pool for pool, _ in self.more if address is not None and address in pool.subnet), None)
        subnet: Subnet | None = pool.subnet if pool is not None else None
        gateway: Address | None = pool.gateway if pool is not None else None
        if pool is None:
            spec = self.spec
            subnet, gateway = (spec.subnet, spec.gateway) if version == 4 else (spec.subnet6, spec.gateway6)
        return subnet.prefixlen if subnet is not None else 0, str(gateway or "")

    def has(self, ip: str) -> bool:
        """Whether the address is of one of the network's subnets, or it has none."""
        subnets = subnets_of(self.spec)
        return not subnets or any(ip_address(ip) in subnet for subnet in subnets)

    def reserve(self, endpoint: Endpoint) -> None:
        """Mark the addresses of an endpoint that exists already."""
        for first, ip in ((self.allocator, endpoint.ip), (self.allocator6, endpoint.ip6)):
            if first is not None and ip:
                self.allocator_of(ip_address(ip), first).reserve(ip_address(ip))

    def release(self, *ips: str) -> None:
        """Give addresses back; "" is none."""
        for ip in filter(None, ips):
            address = ip_address(ip)
            first = self.allocator if address.version == 4 else self.allocator6
            if first is not None:
                self.allocator_of(address, first).release(address)


def subnets_of(network: Network) -> list[Subnet]:
    """None of one that is only settings."""
    found = (network.subnet, network.subnet6, *(pool.subnet for pool in network.more_pools))
    return [] if network.config_only else [subnet for subnet in found if subnet is not None]
