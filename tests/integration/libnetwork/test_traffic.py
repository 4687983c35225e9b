"""Real packets: from the host, its loopback, a neighbour machine, and between containers."""

import asyncio
import socket
from collections.abc import Callable

import pytest
from integration.libnetwork.conftest import controller

from rorqual import errdefs
from rorqual.libnetwork.model import EndpointConfig, NetworkConfig, PortBinding

pytestmark = pytest.mark.root

UDP = socket.SOCK_DGRAM


async def container(c, name, *ports, network="bridge", **config):
    sandbox = await c.create_sandbox(name)
    endpoint = await c.connect(name, network, EndpointConfig(name=name, port_bindings=ports, **config))
    return sandbox.netns_path, endpoint


def test_container_reaches_the_neighbour_with_the_hosts_address(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            ns, endpoint = await container(c, "c1")
            assert endpoint.ip == "172.17.0.2" and endpoint.mac == "02:42:ac:11:00:02"
            lab.serve(lab.neighbour, 7000)
            assert await lab.call(ns, "10.9.0.2", 7000) == "hello 10.9.0.1"
            assert "172.17.0.2/16" in lab.run(ns, "ip -4 addr show eth0")
            assert "LOWER_UP" in lab.run(ns, "ip link show lo")

    lab(body)


@pytest.mark.parametrize("kind,proto", [(socket.SOCK_STREAM, "tcp"), (UDP, "udp")])
def test_published_port_from_everywhere(lab: Callable, kind: int, proto) -> None:
    async def body(lab):
        async with controller(lab) as c:
            ns, endpoint = await container(c, "c1", PortBinding(80, proto, host_port=8080))
            other, _ = await container(c, "c2")
            assert endpoint.ports[0].host_port == 8080
            lab.serve(ns, 80, kind)
            assert await lab.call(lab.neighbour, "10.9.0.1", 8080, kind) == "hello 10.9.0.2"
            assert await lab.call(None, "10.9.0.1", 8080, kind) == "hello 10.9.0.1"
            assert await lab.call(None, "127.0.0.1", 8080, kind) == "hello 172.17.0.1"
            assert await lab.call(None, "172.17.0.2", 80, kind) == "hello 172.17.0.1"
            assert await lab.call(ns, "10.9.0.1", 8080, kind) == "hello 172.17.0.1"  # hairpin to itself
            assert await lab.call(other, "10.9.0.1", 8080, kind) == "hello 172.17.0.1"
            assert await lab.call(other, "172.17.0.1", 8080, kind) == "hello 172.17.0.1"
            assert await lab.call(other, "172.17.0.2", 80, kind) == "hello 172.17.0.3"  # ICC, no rewriting

    lab(body)


def test_unpublished_port_is_unreachable_from_outside_even_by_route(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            ns, _ = await container(c, "c1", PortBinding(80, host_port=8080))
            lab.serve(ns, 80)
            lab.serve(ns, 81)
            lab.route_from_neighbour("172.17.0.0", 16)
            assert await lab.refused(lab.neighbour, "10.9.0.1", 81)
            assert await lab.refused(lab.neighbour, "172.17.0.2", 81)
            assert await lab.refused(lab.neighbour, "172.17.0.2", 80)  # only by the published address
            assert await lab.call(lab.neighbour, "10.9.0.1", 8080) == "hello 10.9.0.2"
            await c.delete_sandbox("c1")
            assert await lab.refused(lab.neighbour, "10.9.0.1", 8080)

    lab(body)


def test_cve_2025_54410_loopback_port_stays_on_loopback(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            ns, _ = await container(c, "c1", PortBinding(80, host_ip="127.0.0.1", host_port=8080))
            spy, _ = await container(c, "c2")
            lab.serve(ns, 80)
            lab.serve(None, 9999, text="host")
            assert await lab.call(None, "127.0.0.1", 8080) == "hello 172.17.0.1"
            assert await lab.refused(None, "10.9.0.1", 8080)
            assert await lab.refused(lab.neighbour, "10.9.0.1", 8080)
            # A neighbour that sends packets for 127.0.0.1 to us, on an interface whose kernel would take them.
            lab.run(None, "sysctl -qw net.ipv4.conf.uplink.route_localnet=1")
            for hole in (lab.neighbour, spy):
                gateway = "10.9.0.1" if hole == lab.neighbour else "172.17.0.1"
                lab.run(hole, "sysctl -qw net.ipv4.conf.eth0.route_localnet=1 net.ipv4.conf.all.rp_filter=0")
                lab.run(hole, "ip rule add pref 10 lookup 99; ip rule add pref 20 lookup local; ip rule del pref 0")
                lab.run(
                    hole, f"ip route add 127.0.0.0/8 via {gateway} dev eth0 src $(hostname -I|cut -d' ' -f1) table 99"
                )
                assert await lab.refused(hole, "127.0.0.1", 8080)
            assert await lab.refused(spy, "127.0.0.1", 9999)  # CVE-2020-8558
            assert await lab.call(None, "127.0.0.1", 9999) == "host 127.0.0.1"

    lab(body)


@pytest.mark.parametrize("bridge_nf", ["0", "1"])
def test_icc_off_separates_containers_but_not_published_ports(lab: Callable, bridge_nf: str) -> None:
    async def body(lab):
        lab.run(None, f"sysctl -qw net.bridge.bridge-nf-call-iptables={bridge_nf} || true")  # absent: by port flag
        async with controller(lab, icc=False) as c:
            ns, _ = await container(c, "c1", PortBinding(80, host_port=8080))
            other, _ = await container(c, "c2")
            lab.serve(ns, 80)
            assert await lab.refused(other, "172.17.0.2", 80)
            assert await lab.call(other, "10.9.0.1", 8080) == "hello 172.17.0.1"

    lab(body)


def test_port_conflicts_name_the_owner(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            await container(c, "c1", PortBinding(80, host_port=8080))
            with pytest.raises(errdefs.Internal) as caught:
                await container(c, "c2", PortBinding(80, host_port=8080))
            assert "driver failed programming external connectivity on endpoint c2 (" in str(caught.value)
            assert str(caught.value).endswith("Bind for 0.0.0.0:8080 failed: port is already allocated (by c1)")
            with pytest.raises(errdefs.Internal, match=r"Bind for 127.0.0.1:8080 failed"):
                await c.connect(
                    "c2", "bridge", EndpointConfig(port_bindings=(PortBinding(80, "tcp", "127.0.0.1", 8080),))
                )
            lab.serve(None, 9000)
            with pytest.raises(errdefs.Internal, match=r"listen tcp4 0.0.0.0:9000: bind: address already in use"):
                await c.connect("c2", "bridge", EndpointConfig(port_bindings=(PortBinding(80, host_port=9000),)))
            # Nothing half made is left, and others cannot take a published port.
            assert (await c.sandbox("c2")).endpoints == ()
            assert len([link for link in lab.run(None, "ip -o link").splitlines() if "veth" in link]) == 1
            with pytest.raises(OSError, match="in use"), socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("0.0.0.0", 8080))
            _, e3 = await container(c, "c3", PortBinding(80), PortBinding(81), PortBinding(82, "udp"))
            assert [p.host_ip for p in e3.ports] == ["0.0.0.0", "::"] * 3
            first, second, third = (p.host_port for p in e3.ports if p.host_ip == "0.0.0.0")
            assert 32768 <= first < second <= 60999 and 32768 <= third <= 60999
            _, e4 = await container(c, "c4", PortBinding(80, host_port=8079, host_port_end=8085))
            assert e4.ports[0].host_port == 8079
            _, e5 = await container(c, "c5", PortBinding(80, host_port=8079, host_port_end=8085))
            assert e5.ports[0].host_port == 8081

    lab(body)


def test_udp_client_that_never_stops_reaches_the_next_container(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            ns, _ = await container(c, "c1", PortBinding(53, "udp", host_port=5353))
            lab.serve(ns, 53, UDP, "one")
            client = lab.open_socket(lab.neighbour, UDP)
            client.settimeout(10)
            client.connect(("10.9.0.1", 5353))

            def ask() -> str:
                client.send(b"?")
                return client.recv(100).decode()

            assert await asyncio.to_thread(ask) == "one 10.9.0.2"
            await c.delete_sandbox("c1")
            client.send(b"to nobody")
            ns, _ = await container(c, "c2", PortBinding(53, "udp", host_port=5353))
            lab.serve(ns, 53, UDP, "two")
            client.setblocking(False)
            while True:  # a port-unreachable answer to the lost datagram may be queued
                try:
                    client.recv(100)
                except BlockingIOError:
                    break
                except ConnectionRefusedError:
                    continue
            client.settimeout(10)
            assert await asyncio.to_thread(ask) == "two 10.9.0.2"
            client.close()

    lab(body)


def test_user_networks_are_separate_and_internal_ones_closed(lab: Callable) -> None:
    async def body(lab):
        from rorqual.libnetwork.model import NetworkConfig

        async with controller(lab) as c:
            red = await c.create_network(NetworkConfig("red"))
            await c.create_network(NetworkConfig("vault", internal=True))
            assert str(red.subnet) == "172.18.0.0/16" and red.interface == f"br-{red.id[:12]}"
            ns1, e1 = await container(c, "c1", PortBinding(80, host_port=8080), network="red")
            ns2, e2 = await container(c, "c2")
            ns3, _ = await container(c, "c3", network="vault")
            for ns in (ns1, ns2, ns3):
                lab.serve(ns, 80)
            lab.serve(lab.neighbour, 7000)
            assert await lab.refused(ns2, e1.ip, 80)
            assert await lab.refused(ns1, e2.ip, 80)
            assert await lab.refused(ns3, "10.9.0.2", 7000)
            lab.run(ns3, "ip route add default via 172.19.0.1")
            assert await lab.refused(ns3, "10.9.0.2", 7000) and await lab.refused(ns3, e2.ip, 80)
            assert await lab.call(ns1, "10.9.0.2", 7000) == "hello 10.9.0.1"
            assert await lab.call(ns2, "10.9.0.1", 8080)
            # A second network for a running container, and away again.
            joined = await c.connect("c2", "red", EndpointConfig(name="c2"))
            assert joined.interface == "eth1"
            assert await lab.call(ns2, e1.ip, 80) == f"hello {joined.ip}"
            await c.disconnect("c2", "bridge")
            assert "via 172.18.0.1" in lab.run(ns2, "ip route")
            assert await lab.call(ns2, "10.9.0.2", 7000) == "hello 10.9.0.1"
            with pytest.raises(errdefs.PermissionDenied, match="has active endpoints"):
                await c.remove_network("red")
            await c.disconnect("c2", "red")
            await c.delete_sandbox("c1")
            await c.remove_network("red")
            assert red.interface not in lab.run(None, "ip -o link")

    lab(body)


def test_a_bridge_that_was_there_before_stays_after_the_network(lab: Callable) -> None:
    async def body(lab):
        lab.run(None, "ip link add office type bridge && ip link set office up")
        async with controller(lab) as c:
            options = {"com.docker.network.bridge.name": "office"}
            network = await c.create_network(NetworkConfig("red", options=options))
            assert network.found and network.interface == "office"
            ns, endpoint = await container(c, "c1", network="red")
            lab.serve(ns, 80)
            assert await lab.call(None, endpoint.ip, 80)
            with pytest.raises(errdefs.PermissionDenied, match="networks have same bridge name"):
                await c.create_network(NetworkConfig("blue", options=options))
            await c.delete_sandbox("c1")
            await c.remove_network("red")
            assert "office" in lab.run(None, "ip link")

    lab(body)


def test_the_administrators_chain_can_hold_published_ports_to_a_list(lab: Callable) -> None:
    """The recipes of docs/networking.md, but for device, ports and addresses."""

    async def body(lab):
        async with controller(lab) as c:
            ns, _ = await container(c, "c1", PortBinding(80, host_port=8080), PortBinding(80, host_port=8081))
            lab.serve(ns, 80)
            lab.serve(lab.neighbour, 7000)
            lab.run(
                None,
                'nft add rule inet rorqual0 rorqual-user iifname "uplink" ct status dnat ct direction original '
                "meta l4proto tcp ct original proto-dst != '{ 80, 8080 }' drop",
            )
            lab.run(
                None,
                "nft add rule inet rorqual0 rorqual-user ct direction original "
                "meta l4proto tcp ct original proto-dst 8080 ip saddr != 10.9.0.0/24 drop",
            )
            assert await lab.call(lab.neighbour, "10.9.0.1", 8080) == "hello 10.9.0.2"
            assert await lab.refused(lab.neighbour, "10.9.0.1", 8081)
            assert await lab.call(None, "127.0.0.1", 8081) == "hello 172.17.0.1"  # the host itself
            assert await lab.call(ns, "10.9.0.2", 7000) == "hello 10.9.0.1"  # and the way out

    lab(body)
