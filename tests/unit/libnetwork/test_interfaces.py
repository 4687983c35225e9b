from ipaddress import ip_address

import pytest

from rorqual import errdefs
from rorqual.libnetwork.interfaces import IFNAME, SYSCTLS, chosen_name, mac_of, settings
from rorqual.libnetwork.model import Endpoint, EndpointID, NetworkID, SandboxID


def endpoint(sysctls: str) -> Endpoint:
    ids = (EndpointID("e"), "web", NetworkID("n"), "red", SandboxID("s"))
    return Endpoint(*ids, interface="eth1", driver_opts={SYSCTLS: sysctls, IFNAME: ""})


def test_sysctls_are_of_the_endpoints_own_interface() -> None:
    found = settings(endpoint("net.ipv4.conf.IFNAME.log_martians=1, net.ipv6.neigh.IFNAME.mcast_solicit=2"))
    assert found == [("net/ipv4/conf/eth1/log_martians", "1"), ("net/ipv6/neigh/eth1/mcast_solicit", "2")]
    assert settings(endpoint("")) == []


@pytest.mark.parametrize(
    "text",
    [
        "net.ipv4.ip_forward=1",
        "net.ipv4.conf.eth0.log_martians=1",
        "net.ipv4.conf.IFNAME.../../kernel=1",
        "kernel.hostname=x",
        "net.ipv4.conf.IFNAME.log_martians",
    ],
)
def test_no_other_sysctl_can_be_reached(text: str) -> None:
    with pytest.raises(errdefs.InvalidArgument, match="invalid sysctl for an endpoint"):
        settings(endpoint(text))


def test_interface_names() -> None:
    assert chosen_name("", {"eth0", "eth2"}) == "eth1" and chosen_name("", set(), "lan") == "lan0"
    assert chosen_name("wan", {"eth0"}) == "wan"
    with pytest.raises(errdefs.Conflict):
        chosen_name("eth0", {"eth0"})
    for bad in ("a/b", "x" * 16, "a b"):
        with pytest.raises(errdefs.InvalidArgument):
            chosen_name(bad, set())


def test_mac_addresses_follow_from_addresses() -> None:
    assert mac_of(ip_address("172.17.0.2")) == "02:42:ac:11:00:02"
    assert mac_of(ip_address("fd00::2")) == "02:46:00:00:00:02"
