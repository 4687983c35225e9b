"""Costs that must not grow with what is there already: processor time of this process, kernel's part too, which other
work on the machine changes little; of each batch the lower quartile, first against last."""

import statistics
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network

import pytest
from integration.libnetwork.conftest import controller

from rorqual.libnetwork.firewall.keeper import Firewall
from rorqual.libnetwork.firewall.ruleset import BridgeRules, Publication
from rorqual.libnetwork.model import AddressPool, EndpointConfig, NetworkConfig, PortBinding

pytestmark = pytest.mark.root

BATCH = 25
ALLOWED = 1.5
NOISE_S = 0.0002  # of an interrupt's work that was charged to it


def no_dearer(spent: list[float], what: str, allowed: float = ALLOWED) -> None:
    first, last = (statistics.quantiles(batch, n=4)[0] for batch in (spent[1 : BATCH + 1], spent[-BATCH:]))
    assert last <= first * allowed + NOISE_S, f"{what}: {first * 1e3:.2f} ms at first, {last * 1e3:.2f} ms at last"


def test_the_three_hundredth_endpoint_costs_what_the_first_did(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            await c.create_network(NetworkConfig("red"))
            spent = []
            for number in range(300):
                name = f"c{number}"
                await c.create_sandbox(name)
                begin = time.process_time()
                ports = (PortBinding(80, host_port=20000 + number),)
                await c.connect(name, "red", EndpointConfig(name=name, dns_names=(name,), port_bindings=ports))
                spent.append(time.process_time() - begin)
            no_dearer(spent, "connect")
            assert len(await c.endpoints("red")) == 300

    lab(body)


def test_the_hundred_and_fiftieth_network_costs_little_more_than_the_first(lab: Callable) -> None:
    async def body(lab):
        pools = (AddressPool(IPv4Network("10.128.0.0/10"), 24),)
        async with controller(lab, address_pools=pools) as c:
            spent = []
            for number in range(150):
                begin = time.process_time()
                await c.create_network(NetworkConfig(f"n{number}"))
                spent.append(time.process_time() - begin)
            # The sets of subnets are of intervals, which libnftables reads before it adds one: some of it grows.
            no_dearer(spent, "network create", 2.5)

    lab(body)


def test_the_five_thousandth_port_costs_what_the_first_did(lab: Callable) -> None:
    async def body(lab):
        firewall = Firewall("rorqual0", "rorqual-user")
        firewall.replace([BridgeRules("rorqual0", IPv4Network("172.17.0.0/16"))], [])
        lines = len(lab.run(None, "nft -s list table inet rorqual0 | grep -v elements | grep -v ' : '").splitlines())
        spent = []
        for number in range(5000):
            target = Publication("tcp", IPv4Address("0.0.0.0"), 10000 + number, IPv4Address("172.17.0.2"), 80)
            begin = time.process_time()
            firewall.publish([target])
            spent.append(time.process_time() - begin)
        no_dearer(spent, "publish")
        # A packet passes the same rules, however many ports there are: they are elements of one map.
        rules = lab.run(None, "nft -s list table inet rorqual0 | grep -v elements | grep -v ' : '").splitlines()
        assert len(rules) == lines
        firewall.close()

    lab(body)
