"""Choosing a subnet for a network: the first of the pools that nothing on this machine uses."""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network

from rorqual import errdefs
from rorqual.libnetwork.model import AddressPool

Subnet = IPv4Network | IPv6Network


def unique_local(seed: str) -> AddressPool:
    """An IPv6 pool of 65,536 /64 networks that no other engine is likely to have (RFC 4193): `seed` is hexadecimal,
    random, and kept by the engine."""
    return AddressPool(IPv6Network((b"\xfd" + bytes.fromhex(seed[:10]) + bytes(10), 48)), 64)


def candidates(pools: Sequence[AddressPool]) -> Iterator[Subnet]:
    for pool in pools:
        yield from pool.base.subnets(new_prefix=max(pool.size, pool.base.prefixlen))


def choose(pools: Sequence[AddressPool], taken: Iterable[Subnet]) -> Subnet:
    """The first subnet of the pools (all of one family) that overlaps none of `taken` (of the same).

    Raises errdefs.InvalidArgument with Docker's text when there is none.
    """
    busy = [net for net in taken if net.prefixlen > 0]  # a default route overlaps everything and means nothing
    for subnet in candidates(pools):
        if not any(subnet.overlaps(other) for other in busy if other.version == subnet.version):
            return subnet
    raise errdefs.InvalidArgument("all predefined address pools have been fully subnetted")


def check_requested(subnet: Subnet, networks: Iterable[Subnet]) -> None:
    """Raises errdefs.PermissionDenied, as Docker does, when another of our networks has a part of `subnet`."""
    if any(subnet.overlaps(other) for other in networks if other.version == subnet.version):
        raise errdefs.PermissionDenied("invalid pool request: Pool overlaps with other one on this address space")
