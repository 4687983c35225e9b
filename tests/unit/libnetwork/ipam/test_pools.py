from collections.abc import Sequence
from ipaddress import IPv4Network, ip_network

import pytest

from rorqual import errdefs
from rorqual.libnetwork.ipam.pools import check_requested, choose, span, unique_local
from rorqual.libnetwork.model import DEFAULT_POOLS, AddressPool


def given(pools: Sequence[AddressPool], *taken: str) -> list[str]:
    """All that the pools give, one after the other, until there is none."""
    busy = [span(ip_network(net)) for net in taken]
    found = []
    try:
        while True:
            found.append(choose(pools, busy))
            busy.append(span(found[-1]))
    except errdefs.InvalidArgument as error:
        assert str(error) == "all predefined address pools have been fully subnetted"
    return [str(net) for net in found]


def test_default_pools_are_dockers() -> None:
    nets = given(DEFAULT_POOLS)
    assert nets[0] == "172.17.0.0/16" and nets[14] == "172.31.0.0/16"
    assert nets[15] == "192.168.0.0/20" and nets[-1] == "192.168.240.0/20" and len(nets) == 31


def test_first_pool_that_the_host_does_not_use() -> None:
    assert given(DEFAULT_POOLS, "172.17.0.0/16", "172.18.4.0/24")[0] == "172.19.0.0/16"


def test_what_is_taken_may_be_larger_smaller_or_within_another() -> None:
    pools = [AddressPool(IPv4Network("10.0.0.0/16"), 24)]
    taken = ["10.0.0.0/18", "10.0.3.0/24", "10.0.65.128/25", "10.0.64.7/32", "9.0.0.0/8"]
    nets = given(pools, *taken)
    assert nets[:2] == ["10.0.66.0/24", "10.0.67.0/24"] and len(nets) == 256 - 66


def test_no_pool_left() -> None:
    assert given([AddressPool(IPv4Network("10.0.0.0/24"), 25)], "10.0.0.0/8") == []


def test_ipv6_pools_are_the_engines_own() -> None:
    pool = unique_local("0123456789abcdef")
    assert str(pool.base) == "fd01:2345:6789::/48"
    assert str(choose([pool], [])) == "fd01:2345:6789::/64"
    assert str(choose([pool], [span(ip_network("fd01:2345:6789::/64"))])) == "fd01:2345:6789:1::/64"


def test_requested_overlap() -> None:
    with pytest.raises(errdefs.PermissionDenied, match="Pool overlaps with other one"):
        check_requested(IPv4Network("10.0.0.0/24"), [IPv4Network("10.0.0.0/16")])
