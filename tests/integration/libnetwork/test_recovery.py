"""What survives the daemon, what a start repairs, and what nothing leaves behind."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable

import pytest
from integration.libnetwork.conftest import controller

from rorqual import errdefs
from rorqual.libnetwork.controller import Controller
from rorqual.libnetwork.model import ControllerOptions, EndpointConfig, NetworkConfig, PortBinding, SandboxConfig
from rorqual.libnetwork.store import Store

pytestmark = pytest.mark.root


def elements(lab, name, table="rorqual0"):
    """The elements of a set or map."""
    kind = "map" if name.startswith("publish") else "set"
    listed = json.loads(lab.run(None, f"nft -j list {kind} inet {table} {name}"))
    return listed["nftables"][-1][kind].get("elem", [])


def tables(lab):
    return json.loads(lab.run(None, "nft -j list tables"))["nftables"][1:]


def veths(lab):
    return [line for line in lab.run(None, "ip -o link show type veth").splitlines() if "uplink" not in line]


async def gone(check, within_s=30.0):
    """Waits for the kernel, which ends namespaces asynchronously, the machine's one after the other."""
    end = time.monotonic() + within_s
    while check():
        assert time.monotonic() < end, check()
        await asyncio.sleep(0.02)


def test_restart_keeps_networks_containers_and_ports(lab: Callable) -> None:
    async def body(lab):
        config = SandboxConfig(hostname="one", extra_hosts=(("db", "10.1.1.1"),))
        async with controller(lab) as c:
            await c.create_sandbox("c1", config)
            before = await c.connect(
                "c1", "bridge", EndpointConfig("one", port_bindings=(PortBinding(80, host_port=8080),))
            )
            await c.create_sandbox("c2")
            await c.connect("c2", "bridge")
            network, path = await c.network("bridge"), (await c.sandbox("c1")).netns_path
            lab.serve(path, 80)
            handles = [t["table"]["handle"] for t in tables(lab)]
        assert await lab.call(lab.neighbour, "10.9.0.1", 8080)  # nobody is there, the port works
        async with controller(lab, ["c1"]) as c:
            assert await c.network("bridge") == network
            # The table was rewritten in place: a deleted one would have come back under another handle.
            assert [t["table"]["handle"] for t in tables(lab)] == handles
            sandbox = await c.sandbox("c1")
            assert sandbox.endpoints == (before,) and sandbox.config == config
            assert await lab.call(lab.neighbour, "10.9.0.1", 8080)
            assert await lab.call(None, "127.0.0.1", 8080)
            await gone(lambda: len(veths(lab)) > 1)
            assert os.listdir(lab.exec_root + "/netns") == ["c1"]
            await c.create_sandbox("c3")
            after = await c.connect("c3", "bridge")
            assert after.ip == "172.17.0.4"  # not .3, which was free only just now
            await c.delete_sandbox("c1")
            await c.delete_sandbox("c1")
            assert elements(lab, "publish-any") == []

    lab(body)


def test_sigkill_in_the_middle_loses_nothing_that_was_answered(lab: Callable) -> None:
    async def body(lab):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)

            async def work():
                async with controller(lab) as c:
                    for n in range(10_000):
                        await c.create_sandbox(f"c{n}")
                        port = PortBinding(80, host_port=20000 + n)
                        endpoint = await c.connect(f"c{n}", "bridge", EndpointConfig(port_bindings=(port,)))
                        os.write(write, f"c{n} {endpoint.ip}\n".encode())

            try:
                loop = asyncio.new_event_loop()
                asyncio.events._set_running_loop(None)
                loop.run_until_complete(work())
            finally:
                os._exit(1)
        os.close(write)
        answered = b""
        while answered.count(b"\n") < 25:
            answered += os.read(read, 4096)
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(os.waitpid, pid, 0)
        while data := os.read(read, 4096):
            answered += data
        known = dict(line.split() for line in answered.decode().splitlines())
        live = list(known)[:20]
        lab.serve(f"{lab.exec_root}/netns/c7", 80)
        assert await lab.call(lab.neighbour, "10.9.0.1", 20007)
        async with controller(lab, live) as c:
            for name in live:
                sandbox = await c.sandbox(name)
                assert sandbox.endpoints[0].ip == known[name]
            assert await lab.call(lab.neighbour, "10.9.0.1", 20007)
            assert len(elements(lab, "publish-any")) == 20
            await gone(lambda: len(veths(lab)) > 20)
            assert len(os.listdir(lab.exec_root + "/netns")) == 20
            assert len(await c.endpoints("bridge")) == 20

    lab(body)


def test_200_sandboxes_leave_nothing(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            await c.create_sandbox("first")
            await c.connect("first", "bridge", EndpointConfig(port_bindings=(PortBinding(80),)))
            await c.delete_sandbox("first")
            (resolver,) = lab.resolvers()
            pids = ("self", resolver)
            fds = [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]

            async def one(n):
                await c.create_sandbox(f"c{n}")
                ports = (PortBinding(80), PortBinding(53, "udp"), PortBinding(81, "tcp", "127.0.0.1"))
                await c.connect(f"c{n}", "bridge", EndpointConfig(port_bindings=ports))
                await c.delete_sandbox(f"c{n}")

            for start in range(0, 200, 16):
                await asyncio.gather(*(one(n) for n in range(start, min(start + 16, 200))))
            await gone(lambda: veths(lab))
            assert os.listdir(lab.exec_root + "/netns") == []
            for name in ("publish", "publish-any", "loopback-ports"):
                assert elements(lab, name) == []
            # The resolver closes what it was given when it is told of the end.
            await gone(lambda: [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids] != fds)
            mounts = lab.run(None, f"cat /proc/{os.getpid()}/mountinfo")
            assert mounts.count(lab.exec_root + "/netns/") == 0
        store = Store(lab.db)
        assert store.count() == {"networks": 3, "sandboxes": 0, "endpoints": 0, "ports": 0}
        store.close()

    lab(body)


@pytest.mark.parametrize("harm", ["flush ruleset", "flush table inet rorqual0", "delete table inet rorqual0"])
def test_cve_2025_54388_another_programs_flush_is_repaired(lab: Callable, harm: str) -> None:
    async def body(lab):
        async with controller(lab) as c:
            await c.create_sandbox("c1")
            await c.connect("c1", "bridge", EndpointConfig(port_bindings=(PortBinding(80, host_port=8080),)))
            lab.serve((await c.sandbox("c1")).netns_path, 80)
            whole = lab.run(None, "nft list table inet rorqual0")
            lab.run(None, f"nft {harm}")
            await gone(lambda: lab.run(None, "nft list table inet rorqual0 || true") != whole)
            assert await lab.call(lab.neighbour, "10.9.0.1", 8080)
            # And without the notification having been served yet: the next change repairs.
            lab.run(None, f"nft {harm}")
            await c.create_sandbox("c2")
            await c.connect("c2", "bridge", EndpointConfig(port_bindings=(PortBinding(80, host_port=8081),)))
            await gone(lambda: len(elements(lab, "publish-any")) != 2)

    lab(body)


def test_administrators_chain_is_never_touched(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            await c.create_sandbox("c1")
            await c.connect("c1", "bridge", EndpointConfig(port_bindings=(PortBinding(80, host_port=8080),)))
            lab.serve((await c.sandbox("c1")).netns_path, 80)
            assert await lab.call(lab.neighbour, "10.9.0.1", 8080)
            lab.run(None, "nft add rule inet rorqual0 rorqual-user iifname uplink tcp dport 80 drop")
            assert await lab.refused(lab.neighbour, "10.9.0.1", 8080)
            # A table of another version, whose set has another type: replaced, the chain carried over.
        lab.run(None, "nft flush chain inet rorqual0 forward; nft flush chain inet rorqual0 to-container")
        lab.run(None, "nft delete set inet rorqual0 internal; nft add set inet rorqual0 internal '{ type ipv4_addr; }'")
        async with controller(lab, ["c1"]):
            assert "dport 80 drop" in lab.run(None, "nft list chain inet rorqual0 rorqual-user")
            assert await lab.refused(lab.neighbour, "10.9.0.1", 8080)
            assert await lab.call(None, "127.0.0.1", 8080)

    lab(body)


def test_start_makes_a_lost_bridge_and_a_lost_interface_again(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            for name in ("c1", "c2"):
                await c.create_sandbox(name)
            e1 = await c.connect("c1", "bridge", EndpointConfig(port_bindings=(PortBinding(80, host_port=8080),)))
            e2 = await c.connect("c2", "bridge", EndpointConfig(port_bindings=(PortBinding(80, host_port=8081),)))
            for name in ("c1", "c2"):
                lab.serve((await c.sandbox(name)).netns_path, 80)
        lab.run(None, f"ip link del rorqual0; ip link del {e2.host_interface}")
        assert await lab.refused(None, "10.9.0.1", 8080)
        async with controller(lab, ["c1", "c2"]):
            assert await lab.call(lab.neighbour, "10.9.0.1", 8080)
            assert await lab.call(lab.neighbour, "10.9.0.1", 8081)
            assert e1.ip in lab.run(f"{lab.exec_root}/netns/c1", "ip addr")

    lab(body)


def test_two_engines_side_by_side(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as first:
            second = Controller(str(lab.root / "b.db"), str(lab.root / "b"), ControllerOptions(bridge_name="whale1"))
            await second.start()
            assert str((await second.network("bridge")).subnet) == "172.18.0.0/16"
            for c, port in ((first, 8080), (second, 8081)):
                await c.create_sandbox("c1")
                await c.connect("c1", "bridge", EndpointConfig(port_bindings=(PortBinding(80, host_port=port),)))
                lab.serve((await c.sandbox("c1")).netns_path, 80)
                assert await lab.call(lab.neighbour, "10.9.0.1", port) == "hello 10.9.0.2"
            await second.stop()

    lab(body)


def test_bip_and_existing_bridge_choose_the_subnet(lab: Callable) -> None:
    async def body(lab):
        from ipaddress import IPv4Interface

        lab.run(None, "ip link add rorqual0 type bridge; ip addr add 10.44.0.1/24 dev rorqual0")
        async with controller(lab) as c:
            network = await c.network("bridge")
            assert (str(network.subnet), str(network.gateway)) == ("10.44.0.0/24", "10.44.0.1")
        async with controller(lab, bip=IPv4Interface("10.55.0.5/28")) as c:
            changed = await c.network("bridge")
            assert changed.id == network.id
            assert (str(changed.subnet), str(changed.gateway)) == ("10.55.0.0/28", "10.55.0.5")
            addresses = lab.run(None, "ip -4 addr show rorqual0")
            assert "10.55.0.5/28" in addresses and "10.44.0.1" not in addresses

    lab(body)


def test_purge_leaves_the_machine_as_it_was(lab: Callable) -> None:
    async def body(lab):
        def state():
            return lab.run(None, "ip -o link | cut -d: -f2; nft list ruleset"), os.listdir(lab.root)

        before = state()[0]
        c = Controller(lab.db, lab.exec_root, ControllerOptions())
        await c.start()
        for name in ("c1", "c2"):
            await c.create_sandbox(name)
            ports = tuple(PortBinding(80, proto) for proto in ("tcp", "udp", "sctp"))
            endpoint = await c.connect(name, "bridge", EndpointConfig(port_bindings=ports))
            assert [p.proto for p in endpoint.ports] == ["tcp", "tcp", "udp", "udp", "sctp"]
        await c.stop(purge=True)
        await gone(lambda: veths(lab))
        assert state()[0] == before
        assert os.listdir(lab.exec_root) == []
        await c.stop()

    lab(body)


def test_a_network_that_cannot_be_stops_no_other_from_starting(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            await c.create_network(NetworkConfig("red"))
            broken = await c.create_network(NetworkConfig("blue"))
            await c.create_sandbox("c1")
            await c.connect("c1", "blue", EndpointConfig(name="c1"))
        lab.run(None, f"ip link del {broken.interface} && ip link add {broken.interface} type veth")
        async with controller(lab, ("c1",)) as c:
            await c.create_sandbox("c2")
            assert (await c.connect("c2", "red", EndpointConfig(name="c2"))).ip
            with pytest.raises((OSError, errdefs.Error)):
                await c.connect("c2", "blue", EndpointConfig(name="c2"))
            assert [e.network_name for e in (await c.sandbox("c2")).endpoints] == ["red"]

    lab(body)


def test_without_a_default_network_there_is_no_bridge_and_others_work(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            assert "rorqual0" in lab.run(None, "ip link")
        async with controller(lab, default_network=False, table_name="rorqual_x") as c:
            assert [network.name for network in await c.networks()] == ["host", "none"]
            assert "rorqual0" not in lab.run(None, "ip link")
            await c.create_network(NetworkConfig("red"))
            ns = (await c.create_sandbox("c1")).netns_path
            await c.connect("c1", "red", EndpointConfig(name="c1", port_bindings=(PortBinding(80, host_port=8080),)))
            lab.serve(ns, 80)
            assert await lab.call(lab.neighbour, "10.9.0.1", 8080) == "hello 10.9.0.2"
            assert "localhost" in await c.hosts(await c.sandbox("c1"))
            with pytest.raises(errdefs.NotFound):
                await c.connect("c1", "bridge", EndpointConfig())
            with pytest.raises(errdefs.PermissionDenied, match="predefined bridge network"):
                await c.create_network(NetworkConfig("bridge"))
        async with controller(lab, ("c1",)) as c:
            assert {"bridge", "red"} < {network.name for network in await c.networks()}

    lab(body)
