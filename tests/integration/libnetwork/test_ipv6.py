"""IPv6, gateway modes and isolation: real packets from a neighbour machine, the host, its loopback and containers."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network

import pytest
from integration.libnetwork.conftest import controller

from rorqual import errdefs
from rorqual.libnetwork.model import EndpointConfig, NetworkConfig, PortBinding
from rorqual.libnetwork.ports import PortUnavailable

pytestmark = pytest.mark.root

SIX = socket.AF_INET6
NAT6 = NetworkConfig("red", enable_ipv6=True, subnet6=IPv6Network("fd0a::/64"))
PREFIX = "com.docker.network.bridge."


async def container(c, name, network, *ports, **config):
    sandbox = await c.create_sandbox(name)
    endpoint = await c.connect(name, network, EndpointConfig(name=name, port_bindings=ports, **config))
    return sandbox.netns_path, endpoint


def advertise(lab, netns: str) -> None:
    """Send a router advertisement of high preference to everybody on eth0 of that namespace."""

    def work() -> None:
        with open(netns) as file:
            lab.enter(file.fileno())
        with socket.socket(SIX, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            index = socket.if_nametoindex("eth0")
            flags = 0x08  # preference high
            packet = struct.pack("!BBHBBHII", 134, 0, 0, 64, flags, 1800, 0, 0)
            sock.sendto(packet, ("ff02::1", 0, 0, index))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_a_port_is_published_in_both_families_and_reached_from_everywhere(lab: Callable) -> None:
    async def body(lab):
        lab.with_ipv6()
        async with controller(lab) as c:
            await c.create_network(NAT6)
            ns, endpoint = await container(c, "c1", "red", PortBinding(80, host_port=8080))
            other, _ = await container(c, "c2", "red")
            assert [p.host_ip for p in endpoint.ports] == ["0.0.0.0", "::"] and endpoint.ip6 == "fd0a::2"
            lab.serve(ns, 80)
            lab.serve(ns, 80, family=SIX)
            assert await lab.call(lab.neighbour, "10.9.0.1", 8080) == "hello 10.9.0.2"
            assert await lab.call(lab.neighbour, "fd09::1", 8080) == "hello fd09::2"
            assert await lab.call(None, "fd09::1", 8080) == "hello fd09::1"
            assert await lab.call(None, "::1", 8080) == "hello fd0a::1"
            assert await lab.call(None, "127.0.0.1", 8080) == "hello 172.18.0.1"
            assert await lab.call(other, "fd0a::2", 80) == "hello fd0a::3"
            assert await lab.call(other, "fd09::1", 8080) == "hello fd0a::1"
            assert await lab.call(ns, "fd09::1", 8080) == "hello fd0a::1"  # hairpin to itself
            assert await lab.refused(lab.neighbour, "fd0a::2", 80)  # not by its own address
            lab.serve(lab.neighbour, 7000, family=SIX)
            assert await lab.call(ns, "fd09::2", 7000) == "hello fd09::1"
            await c.delete_sandbox("c1")
            assert await lab.refused(lab.neighbour, "fd09::1", 8080)

    lab(body)


def test_cve_2020_13401_a_containers_router_advertisement_is_not_listened_to(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            network = await c.create_network(NAT6)
            a, _ = await container(c, "a", "red")
            b, endpoint = await container(c, "b", "red")
            lab.run(a, "ip -6 addr add fe80::bad/64 dev eth0 nodad")  # a router's source address
            before = lab.run(b, "ip -6 route")
            await asyncio.to_thread(advertise, lab, a)
            await asyncio.to_thread(advertise, lab, a)
            lab.run(b, "ping -6 -c 1 -W 2 fd0a::2 || true")  # what was sent before this has been looked at
            assert lab.run(b, "ip -6 route") == before and "default" in before
            path = f"/proc/sys/net/ipv6/conf/{network.interface}/accept_ra"
            assert lab.run(None, f"cat {path}").strip() == "0" and endpoint.gateway6 == "fd0a::1"

    lab(body)


def test_a_network_of_ipv6_only(lab: Callable) -> None:
    async def body(lab):
        lab.with_ipv6()
        async with controller(lab) as c:
            await c.create_network(NetworkConfig("six", enable_ipv4=False, enable_ipv6=True))
            ns, endpoint = await container(c, "c1", "six", PortBinding(80, host_port=8080))
            assert not endpoint.ip and endpoint.ip6.startswith("fd") and endpoint.mac
            assert [p.host_ip for p in endpoint.ports] == ["0.0.0.0", "::"]
            lab.serve(ns, 80, family=SIX)
            assert await lab.call(lab.neighbour, "fd09::1", 8080) == "hello fd09::2"
            with pytest.raises(errdefs.InvalidArgument):
                await c.create_network(NetworkConfig("none4", enable_ipv4=False))

    lab(body)


def test_restart_keeps_ipv6_addresses_and_ports(lab: Callable) -> None:
    async def body(lab):
        lab.with_ipv6()
        async with controller(lab) as c:
            await c.create_network(NAT6)
            ns, endpoint = await container(c, "c1", "red", PortBinding(80, host_port=8080))
            lab.serve(ns, 80, family=SIX)
        assert await lab.call(lab.neighbour, "fd09::1", 8080) == "hello fd09::2"
        lab.run(None, "nft flush ruleset")
        async with controller(lab, ("c1",)) as c:
            assert (await c.sandbox("c1")).endpoints == (endpoint,)
            assert await lab.call(lab.neighbour, "fd09::1", 8080) == "hello fd09::2"
            _, second = await container(c, "c2", "red")
            assert second.ip6 == "fd0a::3"  # the cursor is remembered

    lab(body)


def test_the_default_bridge_has_ipv6_when_asked(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab, ipv6=True, fixed_cidr6=IPv6Network("fd0b::/64")) as c:
            ns, endpoint = await container(c, "c1", "bridge")
            assert endpoint.ip6 == "fd0b::2"
            lab.serve(ns, 80, family=SIX)
            assert await lab.call(None, "fd0b::2", 80) == "hello fd0b::1"

    lab(body)


@pytest.mark.parametrize("mode", ["routed", "nat-unprotected"])
def test_gateway_modes_with_the_containers_own_address(lab: Callable, mode: str) -> None:
    async def body(lab):
        lab.with_ipv6()
        options = {f"{PREFIX}gateway_mode_ipv4": mode, f"{PREFIX}gateway_mode_ipv6": mode}
        async with controller(lab) as c:
            subnets = {"subnet": IPv4Network("10.20.0.0/24"), "subnet6": IPv6Network("fd0a::/64")}
            await c.create_network(NetworkConfig("r", enable_ipv6=True, options=options, **subnets))
            lab.route_from_neighbour("10.20.0.0", 24)
            ns, endpoint = await container(c, "c1", "r", PortBinding(80, host_port=8080))
            for port in (80, 81):
                lab.serve(ns, port)
                lab.serve(ns, port, family=SIX)
            lab.serve(lab.neighbour, 7000)
            assert await lab.call(lab.neighbour, "10.20.0.2", 80) == "hello 10.9.0.2"
            assert await lab.call(lab.neighbour, "fd0a::2", 80) == "hello fd09::2"
            protected = await lab.refused(lab.neighbour, "10.20.0.2", 81, expected=mode == "routed")
            if mode == "routed":
                assert not endpoint.ports and endpoint.routed_ports == ((80, "tcp"),)
                assert await lab.refused(lab.neighbour, "10.9.0.1", 8080)
                assert protected and await lab.refused(lab.neighbour, "fd0a::2", 81)
                assert await lab.call(ns, "10.9.0.2", 7000) == "hello 10.20.0.2"  # its own address, not the host's
            else:
                assert not protected and await lab.call(lab.neighbour, "10.9.0.1", 8080) == "hello 10.9.0.2"
                assert await lab.call(ns, "10.9.0.2", 7000) == "hello 10.9.0.1"
            await c.delete_sandbox("c1")

    lab(body)


def test_isolated_networks_have_no_way_even_to_the_host(lab: Callable) -> None:
    async def body(lab):
        mode = {f"{PREFIX}gateway_mode_ipv4": "isolated"}
        async with controller(lab) as c:
            await c.create_network(
                NetworkConfig("shut", internal=True, options=mode, subnet=IPv4Network("10.20.0.0/24"))
            )
            a, _ = await container(c, "a", "shut")
            b, _ = await container(c, "b", "shut")
            lab.serve(b, 80)
            lab.serve(None, 7000)
            assert await lab.call(a, "10.20.0.3", 80) == "hello 10.20.0.2"
            assert await lab.refused(a, "10.20.0.1", 7000)
            with pytest.raises(errdefs.InvalidArgument, match="only be used for an internal network"):
                await c.create_network(NetworkConfig("open", options=mode))

    lab(body)


@pytest.mark.parametrize("internal", [False, True])
def test_two_bridges_cannot_reach_each_other_in_either_family(lab: Callable, internal: bool) -> None:
    async def body(lab):
        lab.with_ipv6()
        async with controller(lab) as c:
            await c.create_network(NAT6)
            await c.create_network(
                NetworkConfig("blue", enable_ipv6=True, subnet6=IPv6Network("fd0c::/64"), internal=internal)
            )
            a, _ = await container(c, "a", "red")
            b, endpoint = await container(c, "b", "blue")
            for ns in (a, b):
                lab.serve(ns, 80)
                lab.serve(ns, 80, family=SIX)
            for target in (endpoint.ip, endpoint.ip6):
                assert await lab.refused(a, target, 80)
            for target in ("172.18.0.2", "fd0a::2"):
                assert await lab.refused(b, target, 80)
            lab.serve(lab.neighbour, 7000, family=SIX)
            assert await lab.refused(b, "fd09::2", 7000, expected=internal) == internal
            # A container cannot take another's published port by claiming its address.
            lab.run(a, f"ip addr add {endpoint.ip}/32 dev eth0")
            assert await lab.refused(lab.neighbour, endpoint.ip, 80)

    lab(body)


def test_the_way_out_is_the_network_of_the_highest_priority_and_ports_follow_it(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            for name, third in (("red", 1), ("blue", 2), ("vault", 3)):
                subnet = IPv4Network(f"10.30.{third}.0/24")
                await c.create_network(NetworkConfig(name, subnet=subnet, internal=name == "vault"))
            ns, endpoint = await container(c, "c", "vault", PortBinding(80, host_port=8080))
            assert not endpoint.ports
            lab.serve(ns, 80)
            wish = (PortBinding(80, host_port=8080),)
            await c.connect("c", "red", EndpointConfig(name="c", port_bindings=wish))
            assert await lab.call(lab.neighbour, "10.9.0.1", 8080) == "hello 10.9.0.2"
            await c.connect("c", "blue", EndpointConfig(name="c", port_bindings=wish, gw_priority=1))
            assert "default via 10.30.2.1" in lab.run(ns, "ip route")
            holders = [e.network_name for e in (await c.sandbox("c")).endpoints if e.ports]
            assert holders == ["blue"] and await lab.call(lab.neighbour, "10.9.0.1", 8080) == "hello 10.9.0.2"
            await c.disconnect("c", "blue")
            assert "default via 10.30.1.1" in lab.run(ns, "ip route")
            assert await lab.call(lab.neighbour, "10.9.0.1", 8080) == "hello 10.9.0.2"
            await c.disconnect("c", "red")
            assert await lab.refused(lab.neighbour, "10.9.0.1", 8080)

    lab(body)


def test_a_connect_that_fails_leaves_ports_and_routes_as_they_were(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            for name in ("red", "blue"):
                await c.create_network(NetworkConfig(name))
            ns, _ = await container(c, "c", "red", PortBinding(80, host_port=8080))
            lab.serve(ns, 80)
            before = await c.sandbox("c")
            bad = {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.nonsense=1"}
            with pytest.raises(errdefs.InvalidArgument, match="no such sysctl"):
                await c.connect("c", "blue", EndpointConfig(name="c", gw_priority=9, driver_opts=bad))
            assert await c.sandbox("c") == before and len(await c.endpoints("blue")) == 0
            assert "default via 172.18.0.1" in lab.run(ns, "ip route") and "eth1" not in lab.run(ns, "ip link")
            assert await lab.call(lab.neighbour, "10.9.0.1", 8080) == "hello 10.9.0.2"

    lab(body)


def test_an_endpoints_own_interface_name_and_settings(lab: Callable) -> None:
    async def body(lab):
        opts = {
            "com.docker.network.endpoint.ifname": "lan0",
            "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1,"
            "net.ipv4.conf.IFNAME.forwarding=0",
        }
        async with controller(lab) as c:
            await c.create_network(NetworkConfig("red"))
            ns, _ = await container(c, "c", "red", driver_opts=opts, link_local_ips=("169.254.8.8",))
            assert "169.254.8.8/16" in lab.run(ns, "ip addr show lan0")
            # sysctls are read where the reader's namespace is, so by a process inside.
            assert lab.run(ns, "cat /proc/sys/net/ipv4/conf/lan0/log_martians").strip() == "1"
            foreign = {"com.docker.network.endpoint.sysctls": "net.ipv4.ip_forward=1"}
            with pytest.raises(errdefs.InvalidArgument, match="invalid sysctl"):
                await c.create_sandbox("d")
                await c.connect("d", "red", EndpointConfig(name="d", driver_opts=foreign))

    lab(body)


def test_ports_of_a_running_container_come_and_go(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            ns, _ = await container(c, "c", "bridge", PortBinding(80, host_port=8080))
            lab.serve(ns, 80)
            changed = await c.change_ports("c", [PortBinding(80, host_port=8081)], [PortBinding(80, host_port=8080)])
            assert {p.host_port for p in changed.endpoints[0].ports} == {8081}
            assert await lab.call(lab.neighbour, "10.9.0.1", 8081) == "hello 10.9.0.2"
            assert await lab.refused(lab.neighbour, "10.9.0.1", 8080)
            with pytest.raises(errdefs.NotFound, match="port 81/tcp is not published"):
                await c.change_ports("c", [PortBinding(80, host_port=8082)], [PortBinding(81)])
            assert await lab.refused(lab.neighbour, "10.9.0.1", 8082)
            await container(c, "d", "bridge", PortBinding(80, host_port=8083))
            with pytest.raises(PortUnavailable, match="already allocated"):
                await c.change_ports("c", [PortBinding(80, host_port=8083)], [PortBinding(80)])
            assert await lab.call(lab.neighbour, "10.9.0.1", 8081) == "hello 10.9.0.2"
        async with controller(lab, ("c",)) as c:
            assert {p.host_port for p in (await c.sandbox("c")).endpoints[0].ports} == {8081}

    lab(body)
