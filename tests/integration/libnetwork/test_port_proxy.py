"""Clients of published ports that the kernel cannot lead to a container: IPv6 ones of a container without it, [::1]."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable

import pytest
from integration.libnetwork.conftest import controller
from integration.libnetwork.test_dns import until

from rorqual import errdefs
from rorqual.libnetwork.model import EndpointConfig, NetworkConfig, PortBinding

pytestmark = pytest.mark.root

SIX, UDP = socket.AF_INET6, socket.SOCK_DGRAM


async def published(c, name: str, *bindings: PortBinding, network: str = "bridge"):
    sandbox = await c.create_sandbox(name)
    endpoint = await c.connect(name, network, EndpointConfig(name=name, port_bindings=bindings))
    return sandbox.netns_path, endpoint


def echo(lab, netns: str, port: int) -> None:
    """Sends each client what it got from it, after the client has ended its half."""
    sock = lab.open_socket(netns)
    sock.bind(("0.0.0.0", port))
    sock.listen(16)
    lab.servers.append(sock)

    def serve(conn: socket.socket) -> None:
        with conn:
            data = b""
            while part := conn.recv(1 << 20):
                data += part
            conn.sendall(data)

    def work() -> None:
        while True:
            threading.Thread(target=serve, args=(sock.accept()[0],), daemon=True).start()

    threading.Thread(target=work, daemon=True).start()


def listening(lab, port: int) -> bool:
    return f"]:{port} " in lab.run(None, "ss -Hltn6").replace("*:", "[::]:")


def sent_back(lab, netns: str | None, address: str, port: int, data: bytes) -> bytes:
    with lab.open_socket(netns, family=SIX) as sock:
        sock.settimeout(20)
        sock.connect((address, port))
        writer = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
        writer.start()
        got = b""
        while part := sock.recv(1 << 20):
            got += part
        writer.join()
        return got


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, UDP])
def test_ipv6_clients_reach_a_container_without_ipv6(lab: Callable, kind: int) -> None:
    async def body(lab):
        lab.with_ipv6()
        async with controller(lab) as c:
            proto = "udp" if kind == UDP else "tcp"
            ns, endpoint = await published(c, "c1", PortBinding(80, proto, host_port=8080))
            assert [p.host_ip for p in endpoint.ports] == ["0.0.0.0", "::"] and not endpoint.ip6
            lab.serve(ns, 80, kind)
            for netns, address in ((lab.neighbour, "fd09::1"), (None, "::1"), (None, "fd09::1")):
                assert await lab.call(netns, address, 8080, kind) == "hello 172.17.0.1"
            # The kernel's part, as without the process.
            assert await lab.call(lab.neighbour, "10.9.0.1", 8080, kind) == "hello 10.9.0.2"
            assert await lab.refused(lab.neighbour, "fd09::1", 80, kind)
            await c.delete_sandbox("c1")
            assert await lab.refused(lab.neighbour, "fd09::1", 8080, kind)

    lab(body)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, UDP])
def test_ipv4_clients_reach_a_container_that_has_only_ipv6(lab: Callable, kind: int) -> None:
    async def body(lab):
        lab.with_ipv6()
        async with controller(lab) as c:
            network = await c.create_network(NetworkConfig("six", enable_ipv4=False, enable_ipv6=True))
            proto = "udp" if kind == UDP else "tcp"
            ns, endpoint = await published(c, "c1", PortBinding(80, proto, host_port=8080), network="six")
            assert [p.host_ip for p in endpoint.ports] == ["0.0.0.0", "::"] and not endpoint.ip
            lab.serve(ns, 80, kind, family=SIX)
            for netns, address in ((lab.neighbour, "10.9.0.1"), (None, "127.0.0.1"), (None, "10.9.0.1")):
                assert await lab.call(netns, address, 8080, kind) == f"hello {network.gateway6}"
            # The kernel's part, as without the process.
            assert await lab.call(lab.neighbour, "fd09::1", 8080, kind) == "hello fd09::2"
            await c.delete_sandbox("c1")
            assert await lab.refused(lab.neighbour, "10.9.0.1", 8080, kind)

    lab(body)


def test_udp_is_answered_from_the_address_that_was_asked(lab: Callable) -> None:
    async def body(lab):
        lab.with_ipv6()
        lab.run(None, "ip -6 addr add fd09::77/64 dev uplink nodad")
        async with controller(lab) as c:
            ns, _ = await published(c, "c1", PortBinding(80, "udp", host_port=8080))
            lab.serve(ns, 80, UDP)
            for address in ("fd09::77", "fd09::1"):  # `call` connects: an answer from elsewhere does not reach it
                assert await lab.call(lab.neighbour, address, 8080, UDP) == "hello 172.17.0.1"

    lab(body)


def test_everything_arrives_both_ways_and_each_half_ends_by_itself(lab: Callable) -> None:
    async def body(lab):
        lab.with_ipv6()
        async with controller(lab) as c:
            ns, _ = await published(c, "c1", PortBinding(7, host_port=7007))
            echo(lab, ns, 7)
            for data in (b"", b"x", os.urandom(8 << 20)):
                assert await asyncio.to_thread(sent_back, lab, lab.neighbour, "fd09::1", 7007, data) == data

    lab(body)


def test_it_goes_on_without_the_daemon_and_comes_back_without_the_process(lab: Callable) -> None:
    async def body(lab):
        lab.with_ipv6()
        async with controller(lab) as c:
            ns, _ = await published(c, "c1", PortBinding(7, host_port=7007))
            echo(lab, ns, 7)
            with lab.open_socket(lab.neighbour, family=SIX) as sock:
                sock.settimeout(10)
                await asyncio.to_thread(sock.connect, ("fd09::1", 7007))
                sock.send(b"before ")
                await c.stop()
                (pid,) = lab.resolvers()
                assert await asyncio.to_thread(sent_back, lab, lab.neighbour, "fd09::1", 7007, b"without") == b"without"
                async with controller(lab, ("c1",)) as c2:
                    assert lab.resolvers() == [pid]
                    sock.send(b"after")
                    sock.shutdown(socket.SHUT_WR)
                    assert await asyncio.to_thread(sock.recv, 100) == b"before after"
                    await asyncio.sleep(1)  # one that ends at its start is not started again
                    os.kill(pid, signal.SIGKILL)
                    await until(lambda: lab.resolvers() not in ([], [pid]), "another process")
                    await until(lambda: listening(lab, 7007), "it has the port")
                    assert await asyncio.to_thread(sent_back, lab, None, "::1", 7007, b"again") == b"again"
                    await c2.delete_sandbox("c1")
                    # Free at once: a container that is restarted publishes the same port again.
                    for number in range(5):
                        await published(
                            c2, f"d{number}", PortBinding(7, host_port=7007), PortBinding(7, "udp", "", 7007)
                        )
                        await c2.delete_sandbox(f"d{number}")

    lab(body)


def test_a_port_published_on_the_loopback_address_stays_there(lab: Callable) -> None:
    async def body(lab):
        lab.with_ipv6()
        async with controller(lab) as c:
            ns, endpoint = await published(
                c, "c1", PortBinding(80, "tcp", "::1", 8080), PortBinding(80, "tcp", "fd09::1", 81)
            )
            lab.serve(ns, 80)
            assert [(p.host_ip, p.host_port) for p in endpoint.ports] == [("::1", 8080), ("fd09::1", 81)]
            assert await lab.call(None, "::1", 8080) == "hello 172.17.0.1"
            assert await lab.call(lab.neighbour, "fd09::1", 81) == "hello 172.17.0.1"
            assert await lab.refused(lab.neighbour, "fd09::1", 8080)
            assert await lab.refused(lab.neighbour, "10.9.0.1", 8080)

    lab(body)


def test_without_the_proxy_nothing_is_promised(lab: Callable) -> None:
    async def body(lab):
        lab.with_ipv6()
        async with controller(lab, userland_proxy=False) as c:
            ns, endpoint = await published(c, "c1", PortBinding(80, host_port=8080))
            lab.serve(ns, 80)
            assert [p.host_ip for p in endpoint.ports] == ["0.0.0.0"] and lab.resolvers() == []
            assert await lab.refused(lab.neighbour, "fd09::1", 8080)
            await c.create_network(NetworkConfig("red", enable_ipv6=True))
            await published(c, "c2", PortBinding(80, host_port=8082), network="red")
            with pytest.raises(ConnectionRefusedError):  # at once, so that who asked for `localhost` goes on
                await lab.call(None, "::1", 8082)
            with pytest.raises(errdefs.InvalidArgument, match="cannot publish on ::1"):
                await published(c, "c3", PortBinding(80, "tcp", "::1", 8083))

    lab(body)


def test_a_client_that_reads_nothing_holds_up_no_other(lab: Callable) -> None:
    async def body(lab):
        lab.with_ipv6()
        async with controller(lab) as c:
            ns, _ = await published(c, "c1", PortBinding(7, host_port=7007), PortBinding(9, host_port=7009))
            echo(lab, ns, 7)
            source = lab.open_socket(ns)
            source.bind(("0.0.0.0", 9))
            source.listen(4)
            lab.servers.append(source)
            threading.Thread(target=lambda: source.accept()[0].sendall(bytes(64 << 20)), daemon=True).start()
            with lab.open_socket(lab.neighbour, family=SIX) as lazy:
                await asyncio.to_thread(lazy.connect, ("fd09::1", 7009))
                await asyncio.sleep(0.3)
                (pid,) = lab.resolvers()
                assert await asyncio.to_thread(sent_back, lab, lab.neighbour, "fd09::1", 7007, b"quick") == b"quick"
                lines = lab.run(None, f"cat /proc/{pid}/status").splitlines()
                kib = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
                assert kib < 40_000  # what is not read is not kept

    lab(body)


def test_a_container_that_does_not_listen_ends_the_connection(lab: Callable) -> None:
    async def body(lab):
        lab.with_ipv6()
        async with controller(lab) as c:
            await published(c, "c1", PortBinding(80, host_port=8080))
            with pytest.raises(ConnectionResetError):
                await lab.call(lab.neighbour, "fd09::1", 8080)

    lab(body)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, UDP])
@pytest.mark.parametrize("policy", ["bypass", "obey"])
def test_published_ports_obey_the_hosts_input_policy_where_asked(lab: Callable, policy: str, kind: int) -> None:
    """The host's firewall, another program's table, lets in port 8081 and nothing else from outside."""

    async def body(lab):
        lab.with_ipv6()
        proto = "udp" if kind == UDP else "tcp"
        lab.run(
            None,
            "nft 'add table inet host; "
            "add chain inet host input { type filter hook input priority filter; policy drop; };"
            "add rule inet host input ct state established accept; add rule inet host input iifname lo accept;"
            "add rule inet host input meta l4proto ipv6-icmp accept;"
            f"add rule inet host input {proto} dport 8081 accept'",
        )
        async with controller(lab, input_policy=policy) as c:
            ns, _ = await published(c, "c1", *(PortBinding(80, proto, host_port=port) for port in (8080, 8081)))
            lab.serve(ns, 80, kind)
            seen = "10.9.0.2" if policy == "bypass" else "172.17.0.1"
            assert await lab.call(lab.neighbour, "10.9.0.1", 8081, kind) == f"hello {seen}"
            assert await lab.call(lab.neighbour, "fd09::1", 8081, kind) == "hello 172.17.0.1"
            shut = policy == "obey"
            assert await lab.refused(lab.neighbour, "10.9.0.1", 8080, kind, expected=shut) == shut
            assert await lab.refused(lab.neighbour, "fd09::1", 8080, kind)
            for address in ("127.0.0.1", "10.9.0.1", "::1"):
                assert (await lab.call(None, address, 8080, kind)).startswith("hello ")
        async with controller(lab, ("c1",), input_policy=policy) as c:
            assert await lab.call(lab.neighbour, "10.9.0.1", 8081, kind) == f"hello {seen}"
            shut = policy == "obey"
            assert await lab.refused(lab.neighbour, "10.9.0.1", 8080, kind, expected=shut) == shut
            await c.delete_sandbox("c1")
            assert await lab.refused(lab.neighbour, "10.9.0.1", 8081, kind)

    lab(body)


def test_a_changed_input_policy_is_true_of_ports_that_are_published_already(lab: Callable) -> None:
    async def body(lab):
        lab.run(
            None,
            "nft 'add table inet host; "
            "add chain inet host input { type filter hook input priority filter; policy drop; }'",
        )
        async with controller(lab) as c:
            ns, _ = await published(c, "c1", PortBinding(80, host_port=8080))
            lab.serve(ns, 80)
            assert await lab.call(lab.neighbour, "10.9.0.1", 8080) == "hello 10.9.0.2"
        async with controller(lab, ("c1",), input_policy="obey") as c:
            assert await lab.refused(lab.neighbour, "10.9.0.1", 8080)
        async with controller(lab, ("c1",)) as c:
            assert await lab.call(lab.neighbour, "10.9.0.1", 8080) == "hello 10.9.0.2"
            await c.delete_sandbox("c1")

    lab(body)
