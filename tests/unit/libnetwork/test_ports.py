import os
import socket
from ipaddress import IPv4Address, IPv6Address

import pytest

from rorqual import errdefs
from rorqual.libnetwork.model import PortBinding
from rorqual.libnetwork.ports import PortAllocator, PortUnavailable, ephemeral_range

LOCAL = IPv4Address("127.0.0.1")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def ports():
    allocator = PortAllocator()
    yield allocator
    allocator.close()


def test_taken_port_and_its_release(ports: PortAllocator) -> None:
    port = free_port()
    (got,) = ports.allocate(PortBinding(80, host_port=port), [LOCAL], "web")
    assert (got.host_ip, got.host_port, got.container_port) == ("127.0.0.1", port, 80)
    for ip in ("127.0.0.1", "0.0.0.0"):
        with pytest.raises(PortUnavailable, match=rf"{ip}:{port} failed: port is already allocated \(by web\)"):
            ports.allocate(PortBinding(81, host_port=port), [IPv4Address(ip)], "db")
    ports.allocate(PortBinding(80, "udp", host_port=port), [LOCAL], "web")
    ports.release(got)
    ports.release(got)
    ports.release(ports.allocate(PortBinding(81, host_port=port), [LOCAL], "web")[0])


def test_a_port_is_had_on_all_addresses_or_on_none(ports: PortAllocator) -> None:
    port = free_port()
    six = IPv6Address("::1")
    both = ports.allocate(PortBinding(80, host_port=port), [LOCAL, six], "web")
    assert [(p.host_ip, p.host_port) for p in both] == [("127.0.0.1", port), ("::1", port)]
    ports.release(both[0])
    with pytest.raises(PortUnavailable, match=rf"Bind for \[::1\]:{port} failed: port is already allocated"):
        ports.allocate(PortBinding(80, host_port=port), [LOCAL, six], "db")
    ports.allocate(PortBinding(80, host_port=port), [LOCAL], "db")


def test_another_programs_port(ports: PortAllocator) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(
            PortUnavailable,
            match=rf"^listen tcp4 127.0.0.1:{port}: bind: address already in use \(by .*, pid {os.getpid()}\)$",
        ):
            ports.allocate(PortBinding(80, host_port=port), [LOCAL], "web")
    ports.allocate(PortBinding(80, host_port=port), [LOCAL], "web")


def test_ephemeral_ports_are_sequential() -> None:
    first, last = ephemeral_range()
    ports = PortAllocator((first, last))
    numbers = [ports.allocate(PortBinding(80), [LOCAL], "web")[0].host_port for _ in range(3)]
    assert numbers == sorted(set(numbers)) and first <= numbers[0]
    ports.close()


def test_exhausted_range() -> None:
    port = free_port()
    ports = PortAllocator((port, port))
    ports.allocate(PortBinding(80), [LOCAL], "web")
    with pytest.raises(PortUnavailable, match="all ports are allocated"):
        ports.allocate(PortBinding(80), [LOCAL], "web")
    ports.close()


@pytest.mark.parametrize("binding", [PortBinding(0), PortBinding(80, host_port=70000)])
def test_bad_bindings(ports: PortAllocator, binding: PortBinding) -> None:
    with pytest.raises(errdefs.InvalidArgument):
        ports.allocate(binding, [LOCAL], "web")


def test_an_address_that_is_not_ours(ports: PortAllocator) -> None:
    with pytest.raises(PortUnavailable, match="cannot assign requested address"):
        ports.allocate(PortBinding(80, host_port=8080), [IPv4Address("203.0.113.9")], "web")
