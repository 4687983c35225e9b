"""What a container can send in another's name: nothing that its bridge has no route back for."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from integration.libnetwork.conftest import controller

from rorqual.libnetwork.model import EndpointConfig, NetworkConfig, PortBinding

pytestmark = pytest.mark.root

UDP = socket.SOCK_DGRAM


def summed(data: bytes) -> int:
    """The Internet checksum."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data[: len(data) & ~1])) + (data[-1] << 8 if len(data) & 1 else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def datagram(source: IPv4Address | IPv6Address, target: IPv4Address | IPv6Address, ports: tuple[int, int]) -> bytes:
    """A whole UDP packet, whatever the sender's address is."""
    text = b"forged"
    length = 8 + len(text)
    pseudo = source.packed + target.packed + struct.pack(">HH", 17, length)
    udp = struct.pack(">HHHH", *ports, length, 0) + text
    udp = udp[:6] + struct.pack(">H", summed(pseudo + udp)) + udp[8:]
    if source.version == 6:
        return struct.pack(">IHBB", 6 << 28, length, 17, 64) + source.packed + target.packed + udp
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 1, 0, 64, 17, 0) + source.packed + target.packed
    return head[:10] + struct.pack(">H", summed(head)) + head[12:] + udp


def forge(lab, netns: str, packet: bytes, target: str) -> None:
    six = ":" in target

    def work() -> None:
        with open(netns) as file:
            lab.enter(file.fileno())
        with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_RAW, 255) as sock:
            if six:
                sock.setsockopt(socket.IPPROTO_IPV6, 36, 1)  # IPV6_HDRINCL
            sock.sendto(packet, (target, 0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@pytest.mark.parametrize("six", [False, True])
def test_a_container_cannot_answer_for_anothers_published_port(lab: Callable, six: bool) -> None:
    """Connection tracking knows a reply by its addresses, from wherever it comes."""

    async def body(lab):
        lab.with_ipv6()
        host, near = ("fd09::1", "fd09::2") if six else ("10.9.0.1", "10.9.0.2")
        async with controller(lab) as c:
            for name in ("a", "b"):
                await c.create_network(NetworkConfig(name, enable_ipv6=True))
            victim = await c.create_sandbox("victim")
            ports = (PortBinding(53, "udp", host_port=5300),)
            endpoint = await c.connect("victim", "a", EndpointConfig(name="victim", port_bindings=ports))
            address = endpoint.ip6 if six else endpoint.ip
            silent = lab.open_socket(victim.netns_path, UDP, socket.AF_INET6 if six else socket.AF_INET)
            silent.bind(("::" if six else "0.0.0.0", 53))
            lab.servers.append(silent)
            attacker = await c.create_sandbox("attacker")
            own = await c.connect("attacker", "b", EndpointConfig(name="attacker"))
            with lab.open_socket(lab.neighbour, UDP, socket.AF_INET6 if six else socket.AF_INET) as client:
                client.settimeout(0.5)
                client.connect((host, 5300))
                client.send(b"?")
                port = client.getsockname()[1]

                async def heard(netns: str, source: str, tries: int = 1) -> bytes:
                    for _ in range(tries):  # neighbours are looked for first
                        forge(lab, netns, datagram(ip_address(source), ip_address(near), (53, port)), near)
                        with contextlib.suppress(TimeoutError):
                            return await asyncio.to_thread(client.recv, 100)
                    return b""

                assert await heard(victim.netns_path, address, 10) == b"forged"  # the way is right
                assert await heard(attacker.netns_path, own.ip6 if six else own.ip) == b""
                assert await heard(attacker.netns_path, address, 3) == b""
                # Who is on both networks answers by either.
                joined = await c.connect("victim", "b", EndpointConfig(name="victim"))
                flag, gateway = ("-6", joined.gateway6) if six else ("-4", joined.gateway)
                lab.run(victim.netns_path, f"ip {flag} route replace default via {gateway} dev eth1")
                assert await heard(victim.netns_path, address, 10) == b"forged"
                sources = f"nft list set inet rorqual0 sources{'6' if six else ''}"
                assert lab.run(None, sources).count(f" {address}") == 2
                await c.disconnect("victim", "b")
                assert lab.run(None, sources).count(f" {address}") == 1

    lab(body)


def test_a_restart_knows_who_is_on_several_networks(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            for name in ("a", "b"):
                await c.create_network(NetworkConfig(name))
            await c.create_sandbox("c1")
            addresses = [(await c.connect("c1", name, EndpointConfig(name="c1"))).ip for name in ("a", "b")]
            before = lab.run(None, "nft list set inet rorqual0 sources")
            assert all(address in before for address in addresses)
        lab.run(None, "nft flush ruleset")
        async with controller(lab, ("c1",)) as c:
            assert lab.run(None, "nft list set inet rorqual0 sources") == before
            await c.delete_sandbox("c1")
            assert "elements" not in lab.run(None, "nft list set inet rorqual0 sources")

    lab(body)
