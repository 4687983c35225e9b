"""Choosing a subnet for a network: the first of the pools that nothing on this machine uses."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network

from rorqual import errdefs
from rorqual.libnetwork.model import AddressPool

Subnet = IPv4Network | IPv6Network


def unique_local(seed: str) -> AddressPool:
    """An IPv6 pool of 65,536 /64 networks that no other engine is likely to have (RFC 4193): `seed` is hexadecimal,
    random, and kept by the engine."""
    return AddressPool(IPv6Network((b"\xfd" + bytes.fromhex(seed[:10]) + bytes(10), 48)), 64)


Span = tuple[int, int]


def span(network: Subnet) -> Span:
    """The first and last address, as numbers."""
    first = int(network.network_address)
    return first, first + network.num_addresses - 1


def choose(pools: Sequence[AddressPool], taken: Iterable[Span]) -> Subnet:
    """The first subnet of the pools (all of one family) that overlaps none of `taken` (of the same).

    Numbers, and one pass over what is taken: with a thousand networks of a /8 in /24s, comparing each with each took
    longer than making a network does. Raises errdefs.InvalidArgument with Docker's text when there is none.
    """
    busy: list[list[int]] = []  # what is taken without a gap, in order
    for first, last in sorted(taken):
        if busy and first <= busy[-1][1] + 1:
            if last > busy[-1][1]:
                busy[-1][1] = last
        else:
            busy.append([first, last])
    starts = [first for first, _ in busy]
    for pool in pools:
        first, end = span(pool.base)
        size = max(pool.size, pool.base.prefixlen)
        step = 1 << (pool.base.max_prefixlen - size)
        while first <= end:
            before = bisect_right(starts, first + step - 1) - 1
            if before < 0 or busy[before][1] < first:
                return type(pool.base)((first, size))
            first = (busy[before][1] // step + 1) * step
    raise errdefs.InvalidArgument("all predefined address pools have been fully subnetted")


def check_requested(subnet: Subnet, networks: Iterable[Subnet]) -> None:
    """Raises errdefs.PermissionDenied, as Docker does, when another of our networks has a part of `subnet`."""
    if any(subnet.overlaps(other) for other in networks if other.version == subnet.version):
        raise errdefs.PermissionDenied("invalid pool request: Pool overlaps with other one on this address space")
