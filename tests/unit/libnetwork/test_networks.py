from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from rorqual import errdefs
from rorqual.libnetwork.model import ControllerOptions, NetworkConfig, NetworkID
from rorqual.libnetwork.networks import addressed, user_bridge

SUBNET = IPv4Network("10.0.0.0/24")
IDENT = NetworkID("ab" * 32)


def made(**config):
    subnet = config.pop("subnet", SUBNET)
    return user_bridge(addressed(NetworkConfig("red", **config), IDENT, subnet, None, 1.0), ControllerOptions())


def test_defaults() -> None:
    network = made()
    assert (str(network.gateway), network.interface, network.mtu) == ("10.0.0.1", "br-abababababab", 1500)
    assert network.icc and network.ip_masq and not network.internal


def test_options_of_docker() -> None:
    prefix = "com.docker.network.bridge."
    options = {
        prefix + "name": "red0",
        prefix + "enable_icc": "false",
        prefix + "enable_ip_masquerade": "0",
        "com.docker.network.driver.mtu": "1400",
    }
    network = made(options=options)
    assert (network.interface, network.icc, network.ip_masq, network.mtu) == ("red0", False, False, 1400)
    assert network.options == options


@pytest.mark.parametrize(
    "config",
    [
        {"gateway": IPv4Address("10.0.1.1")},
        {"ip_range": IPv4Network("10.0.1.0/28")},
        {"aux_addresses": {"router": "10.0.1.9"}},
        {"aux_addresses": {"router": "x"}},
        {"options": {"com.docker.network.driver.mtu": "big"}},
        {"options": {"com.docker.network.bridge.enable_icc": "maybe"}},
        {"options": {"com.docker.network.bridge.name": 'x"; flush ruleset'}},
        {"subnet": IPv4Network("10.0.0.0/31")},
    ],
)
def test_what_does_not_fit_is_refused(config) -> None:
    with pytest.raises(errdefs.InvalidArgument):
        made(**config)


@pytest.mark.parametrize("mode", ["nat", "nat-unprotected", "routed"])
def test_gateway_modes_by_family(mode: str) -> None:
    network = made(options={"com.docker.network.bridge.gateway_mode_ipv6": mode})
    assert (network.gateway_mode, network.gateway_mode6) == ("nat", mode)


def test_isolated_is_for_internal_networks() -> None:
    options = {"com.docker.network.bridge.gateway_mode_ipv4": "isolated"}
    assert made(internal=True, options=options).gateway_mode == "isolated"
    with pytest.raises(errdefs.InvalidArgument, match="only be used for an internal network"):
        made(options=options)


@pytest.mark.parametrize(
    "options",
    [
        {"com.docker.network.bridge.gateway_mode_ipv4": "odd"},
        {"com.docker.network.bridge.host_binding_ipv4": "fd00::1"},
        {"com.docker.network.bridge.host_binding_ipv6": "10.0.0.1"},
        {"com.docker.network.driver.mtu": "-1"},
        {"com.docker.network.bridge.name": "a name that is no device's"},
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(errdefs.InvalidArgument):
        made(options=options)


def test_both_families_have_gateways_of_their_own() -> None:
    config = NetworkConfig("red", enable_ipv6=True, aux_addresses={"a": "fd00::9"})
    network = addressed(config, IDENT, SUBNET, IPv6Network("fd00::/64"), 1.0)
    assert (str(network.gateway), str(network.gateway6)) == ("10.0.0.1", "fd00::1")
    with pytest.raises(errdefs.InvalidArgument, match="no matching subnet for gateway"):
        addressed(NetworkConfig("red", gateway6=IPv6Address("fd01::1")), IDENT, SUBNET, IPv6Network("fd00::/64"), 1.0)
    with pytest.raises(errdefs.InvalidArgument, match="no matching subnet for range"):
        addressed(
            NetworkConfig("red", ip_range6=IPv6Network("fd01::/80")), IDENT, SUBNET, IPv6Network("fd00::/64"), 1.0
        )
