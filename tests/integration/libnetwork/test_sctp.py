"""A published SCTP port, by packets of the test's own: only the kernel's rewriting of them is needed."""

import socket
import struct
import threading
from collections.abc import Callable

import pytest
from integration.libnetwork.conftest import controller

from rorqual.libnetwork.model import EndpointConfig, PortBinding

pytestmark = pytest.mark.root

SCTP = 132


def crc32c(data: bytes) -> int:
    """RFC 9260, appendix A."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def init(source: int, destination: int) -> bytes:
    """A packet that asks for an association."""
    chunk = struct.pack(">BBHIIHHI", 1, 0, 20, 0x11223344, 65536, 1, 1, 7)
    return sealed(struct.pack(">HHII", source, destination, 0, 0) + chunk)


def sealed(packet: bytes) -> bytes:
    """With the checksum that it should have."""
    bare = packet[:8] + bytes(4) + packet[12:]
    return packet[:8] + struct.pack("<I", crc32c(bare)) + packet[12:]


def raw(lab, netns: str) -> socket.socket:
    """A socket for SCTP's packets in that namespace."""
    opened: list[socket.socket] = []

    def work() -> None:
        with open(netns) as file:
            lab.enter(file.fileno())
        opened.append(socket.socket(socket.AF_INET, socket.SOCK_RAW, SCTP))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    opened[0].settimeout(10)
    return opened[0]


def test_an_sctp_packet_to_a_published_port_arrives_and_no_other(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            sandbox = await c.create_sandbox("c1")
            ports = (PortBinding(7, "sctp", host_port=9899),)
            endpoint = await c.connect("c1", "bridge", EndpointConfig(name="c1", port_bindings=ports))
            with raw(lab, lab.neighbour) as near, raw(lab, sandbox.netns_path) as inside:
                near.sendto(init(1000, 9900), ("10.9.0.1", 0))
                near.sendto(init(1001, 9899), ("10.9.0.1", 0))
                packet = inside.recv(2048)
                source, destination = packet[12:16], packet[16:20]
                message = packet[20:]
                assert (socket.inet_ntoa(source), socket.inet_ntoa(destination)) == ("10.9.0.2", endpoint.ip)
                assert struct.unpack_from(">HH", message) == (1001, 7) and sealed(message) == message
                await c.delete_sandbox("c1")
                near.sendto(init(1002, 9899), ("10.9.0.1", 0))
                with pytest.raises(TimeoutError):
                    inside.settimeout(0.3)
                    inside.recv(2048)

    lab(body)
