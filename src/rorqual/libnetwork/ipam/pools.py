"""Choosing a subnet for a network: the first of the pools that nothing on this machine uses."""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network

from rorqual import errdefs
from rorqual.libnetwork.model import AddressPool


def candidates(pools: Sequence[AddressPool]) -> Iterator[IPv4Network]:
    for pool in pools:
        yield from pool.base.subnets(new_prefix=max(pool.size, pool.base.prefixlen))


def choose(pools: Sequence[AddressPool], taken: Iterable[IPv4Network]) -> IPv4Network:
    """The first subnet of the pools that overlaps none of `taken`.

    Raises errdefs.InvalidArgument with Docker's text when there is none.
    """
    busy = [net for net in taken if net.prefixlen > 0]  # a default route overlaps everything and means nothing
    for subnet in candidates(pools):
        if not any(subnet.overlaps(other) for other in busy):
            return subnet
    raise errdefs.InvalidArgument("all predefined address pools have been fully subnetted")


def check_requested(subnet: IPv4Network, networks: Iterable[IPv4Network]) -> None:
    """Raises errdefs.PermissionDenied, as Docker does, when another of our networks has a part of `subnet`."""
    if any(subnet.overlaps(other) for other in networks):
        raise errdefs.PermissionDenied("invalid pool request: Pool overlaps with other one on this address space")
