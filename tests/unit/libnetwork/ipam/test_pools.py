from ipaddress import IPv4Network

import pytest

from rorqual import errdefs
from rorqual.libnetwork.ipam.pools import candidates, check_requested, choose
from rorqual.libnetwork.model import DEFAULT_POOLS, AddressPool


def test_default_pools_are_dockers() -> None:
    nets = [str(net) for net in candidates(DEFAULT_POOLS)]
    assert nets[0] == "172.17.0.0/16" and nets[14] == "172.31.0.0/16"
    assert nets[15] == "192.168.0.0/20" and nets[-1] == "192.168.240.0/20" and len(nets) == 31


def test_first_pool_that_the_host_does_not_use() -> None:
    taken = [IPv4Network("0.0.0.0/0"), IPv4Network("172.17.0.0/16"), IPv4Network("172.18.4.0/24")]
    assert str(choose(DEFAULT_POOLS, taken)) == "172.19.0.0/16"


def test_no_pool_left() -> None:
    with pytest.raises(errdefs.InvalidArgument, match="all predefined address pools have been fully subnetted"):
        choose([AddressPool(IPv4Network("10.0.0.0/24"), 25)], [IPv4Network("10.0.0.0/8")])


def test_requested_overlap() -> None:
    with pytest.raises(errdefs.PermissionDenied, match="Pool overlaps with other one"):
        check_requested(IPv4Network("10.0.0.0/24"), [IPv4Network("10.0.0.0/16")])
