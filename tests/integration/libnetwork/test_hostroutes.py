"""Subnets are chosen around what the host's routes take, which the kernel tells of."""

import socket
from collections.abc import Callable
from ipaddress import ip_network

import pytest
from integration.libnetwork.conftest import controller

from rorqual import errdefs
from rorqual.libnetwork.ipam.hostroutes import HostRoutes
from rorqual.libnetwork.model import AddressPool, NetworkConfig
from rorqual.linux.netlink import RtNetlink

pytestmark = pytest.mark.root


def pool(text: str, size: int) -> AddressPool:
    return AddressPool(ip_network(text), size)


async def made(c, name: str) -> str:
    network = await c.create_network(NetworkConfig(name))
    return str(network.subnet)


def test_a_route_that_comes_or_goes_is_heeded(lab: Callable) -> None:
    async def body(lab):
        lab.run(None, "ip route add 10.1.1.0/25 via 10.9.0.2")
        async with controller(lab, address_pools=(pool("10.1.0.0/16", 24),)) as c:
            assert await made(c, "a") == "10.1.2.0/24"  # 10.1.0.0 is the default bridge's
            lab.run(None, "ip route add 10.1.3.128/32 dev uplink")
            assert await made(c, "b") == "10.1.4.0/24"
            await c.remove_network("a")
            assert await made(c, "c") == "10.1.2.0/24"
            lab.run(None, "ip addr add 10.1.5.77/24 dev uplink")
            assert await made(c, "d") == "10.1.6.0/24"

    lab(body)


def test_what_went_is_used_before_a_network_is_refused(lab: Callable) -> None:
    async def body(lab):
        lab.run(None, "ip link add gone type veth peer name gonepeer && ip link set gone up")
        lab.run(None, "ip addr add 10.1.1.1/24 dev gone")
        async with controller(lab, address_pools=(pool("10.1.0.0/23", 24),)) as c:
            with pytest.raises(errdefs.InvalidArgument, match="fully subnetted"):
                await made(c, "a")
            lab.run(None, "ip link del gone")
            assert await made(c, "a") == "10.1.1.0/24"

    lab(body)


def test_routes_are_read_once_while_only_ours_change(lab: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    original = RtNetlink.routes
    monkeypatch.setattr(RtNetlink, "routes", lambda self, family: read.append(family) or original(self, family))

    async def body(lab):
        async with controller(lab, address_pools=(pool("10.1.0.0/16", 24),)) as c:
            for number in range(20):
                await made(c, f"n{number}")
                if number % 3 == 0:
                    await c.remove_network(f"n{number}")
            assert len(read) <= 2
            lab.run(None, "ip route add 192.0.2.0/24 via 10.9.0.2")
            await made(c, "more")
            assert len(read) <= 3

    lab(body)


def test_lost_notifications_make_it_read_again(lab: Callable) -> None:
    async def body(lab):
        routes = HostRoutes(socket.AF_INET)
        before = routes.foreign([])
        change = "route add 192.0.2.7/32 dev uplink\\nroute del 192.0.2.7/32 dev uplink\\n"
        for _ in range(3):
            lab.run(None, f"yes '' | head -n 2000 | sed 's/.*/{change}/' | grep . | ip -batch -")
        lab.run(None, "ip route add 198.51.100.0/24 dev uplink")
        assert len(routes.foreign([])) > len(before)
        routes.close()

    lab(body)
