from ipaddress import IPv4Address, IPv4Network

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
