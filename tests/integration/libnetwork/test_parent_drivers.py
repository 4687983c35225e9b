"""macvlan and ipvlan: containers on the neighbour's own network."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from integration.libnetwork.conftest import controller

from rorqual import errdefs
from rorqual.libnetwork.model import EndpointConfig, NetworkConfig, Pool

pytestmark = pytest.mark.root


def on_the_uplink(driver: str = "macvlan", name: str = "lan", **options) -> NetworkConfig:
    return NetworkConfig(
        name,
        driver=driver,
        subnet=IPv4Network("10.9.0.0/24"),
        ip_range=IPv4Network("10.9.0.64/26"),
        gateway=IPv4Address("10.9.0.2"),
        options={"parent": "uplink", **options},
    )


async def container(c, name, network="lan", **config):
    sandbox = await c.create_sandbox(name)
    return sandbox.netns_path, await c.connect(name, network, EndpointConfig(name=name, dns_names=(name,), **config))


def test_a_macvlan_container_talks_to_the_neighbour_with_its_own_mac_address(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            network = await c.create_network(on_the_uplink())
            ns, endpoint = await container(c, "c1", mac="02:00:00:00:00:99")
            assert endpoint.ip == "10.9.0.64" and network.found
            lab.serve(ns, 80)
            lab.serve(lab.neighbour, 7000)
            lab.serve(None, 7001)
            assert await lab.call(lab.neighbour, endpoint.ip, 80) == "hello 10.9.0.2"
            assert await lab.call(ns, "10.9.0.2", 7000) == f"hello {endpoint.ip}"
            assert "02:00:00:00:00:99" in lab.run(lab.neighbour, f"ip neigh show {endpoint.ip}")
            assert await lab.refused(ns, "10.9.0.1", 7001)  # the host itself cannot be reached, as in Docker
            await c.delete_sandbox("c1")
            await c.remove_network("lan")
            assert "uplink" in lab.run(None, "ip link")  # it was there before

    lab(body)


@pytest.mark.parametrize("mode,together", [("bridge", True), ("private", False), ("vepa", False)])
def test_macvlan_modes_say_whether_containers_reach_each_other(lab: Callable, mode: str, together: bool) -> None:
    async def body(lab):
        async with controller(lab) as c:
            await c.create_network(on_the_uplink(macvlan_mode=mode))
            a, _ = await container(c, "a")
            b, endpoint = await container(c, "b")
            lab.serve(b, 80)
            assert await lab.refused(a, endpoint.ip, 80, expected=not together) != together
            assert await lab.call(lab.neighbour, endpoint.ip, 80) == "hello 10.9.0.2"

    lab(body)


def test_passthru_is_for_one_container(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            await c.create_network(on_the_uplink(macvlan_mode="passthru"))
            ns, _ = await container(c, "a")
            assert "10.9.0.64" in lab.run(ns, "ip addr show eth0")
            await c.create_sandbox("b")
            with pytest.raises((OSError, errdefs.Error)):
                await c.connect("b", "lan", EndpointConfig(name="b"))
            assert len(await c.endpoints("lan")) == 1

    lab(body)


def test_a_macvlan_network_without_a_parent_is_a_closed_one(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            await c.create_network(NetworkConfig("alone", driver="macvlan", subnet=IPv4Network("10.40.0.0/24")))
            a, _ = await container(c, "a", "alone")
            b, endpoint = await container(c, "b", "alone")
            lab.serve(b, 80)
            lab.serve(lab.neighbour, 7000)
            assert await lab.call(a, endpoint.ip, 80) == "hello 10.40.0.2"
            assert await lab.refused(a, "10.9.0.2", 7000) and "default" not in lab.run(a, "ip route")
            for name in ("a", "b"):
                await c.delete_sandbox(name)
            await c.remove_network("alone")
            assert "dm-" not in lab.run(None, "ip link")

    lab(body)


def test_restart_keeps_macvlan_containers_and_makes_lost_interfaces_again(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            await c.create_network(on_the_uplink())
            ns, endpoint = await container(c, "c1")
            lab.serve(ns, 80)
        async with controller(lab, ("c1",)):
            assert await lab.call(lab.neighbour, endpoint.ip, 80) == "hello 10.9.0.2"
        lab.run(ns, "ip link del eth0")
        async with controller(lab, ("c1",)):
            assert await lab.call(lab.neighbour, endpoint.ip, 80) == "hello 10.9.0.2"
            assert "default via 10.9.0.2" in lab.run(ns, "ip route")

    lab(body)


def test_ipvlan_works_or_says_what_the_kernel_lacks(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            try:
                lab.run(None, "ip link add link uplink name probe type ipvlan mode l2 && ip link del probe")
            except subprocess.CalledProcessError:
                with pytest.raises(errdefs.NotImplementedHere, match="this kernel has no ipvlan interfaces"):
                    await c.create_network(on_the_uplink("ipvlan", ipvlan_mode="l2"))
                assert len(await c.networks()) == 3
                return
            await c.create_network(on_the_uplink("ipvlan", ipvlan_mode="l2"))
            await c.create_sandbox("c1")
            endpoint = await c.connect("c1", "lan", EndpointConfig(name="c1"))
            lab.serve((await c.sandbox("c1")).netns_path, 80)
            assert await lab.call(lab.neighbour, endpoint.ip, 80) == "hello 10.9.0.2"

    lab(body)


@pytest.mark.parametrize(
    "config,text",
    [
        (on_the_uplink(macvlan_mode="odd"), "requested macvlan mode 'odd' is not valid"),
        (on_the_uplink("ipvlan", ipvlan_mode="l9"), "requested ipvlan mode 'l9' is not valid"),
        (on_the_uplink(colour="red"), "invalid network driver option colour"),
        (NetworkConfig("x", driver="macvlan", options={"parent": "nosuch"}), "invalid subinterface vlan name nosuch"),
        (NetworkConfig("x", driver="macvlan", options={"parent": "uplink.9999"}), "vlan id must be between 1-4094"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(lab: Callable, config: NetworkConfig, text: str) -> None:
    async def body(lab):
        async with controller(lab) as c:
            with pytest.raises(errdefs.InvalidArgument, match=text):
                await c.create_network(config)
            assert len(await c.networks()) == 3

    lab(body)


def test_a_network_of_several_subnets_gives_each_its_own_gateway(lab: Callable) -> None:
    async def body(lab):
        first, second, third = (IPv4Network(text) for text in ("10.1.0.0/30", "10.2.0.0/16", "10.3.0.0/16"))
        more = (Pool(second, IPv4Network("10.2.5.0/24"), IPv4Address("10.2.0.9")), Pool(third))
        wanted = NetworkConfig("lan", driver="macvlan", subnet=first, more_pools=more, options={"parent": "uplink"})
        async with controller(lab) as c:
            network = await c.create_network(replace(wanted, aux_addresses={"printer": "10.2.5.0"}))
            assert [str(pool.gateway) for pool in network.more_pools] == ["10.2.0.9", "10.3.0.1"]
            for name, asked, ip, gateway in (
                ("a", "", "10.1.0.2/30", "10.1.0.1"),
                ("b", "", "10.2.5.1/16", "10.2.0.9"),  # the first subnet is used up
                ("c", "10.3.7.7", "10.3.7.7/16", "10.3.0.1"),
            ):
                sandbox = await c.create_sandbox(name)
                await c.connect(name, "lan", EndpointConfig(name=name, ip=asked))
                assert f"inet {ip}" in lab.run(sandbox.netns_path, "ip addr show eth0"), name
                assert f"default via {gateway} " in lab.run(sandbox.netns_path, "ip route"), name
            lab.run(lab.neighbour, "ip addr add 10.3.0.1/16 dev eth0")
            lab.serve((await c.sandbox("c")).netns_path, 80)
            assert await lab.call(lab.neighbour, "10.3.7.7", 80) == "hello 10.3.0.1"
            await c.create_sandbox("d")
            for asked, text in (("10.2.5.0", "in use"), ("10.3.7.7", "in use"), ("10.4.0.1", "does not belong to any")):
                with pytest.raises(errdefs.Error, match=text):
                    await c.connect("d", "lan", EndpointConfig(name="d", ip=asked))
            for taken in ("10.3.8.0/24", "10.2.0.0/17"):
                with pytest.raises(errdefs.PermissionDenied, match="overlaps"):
                    await c.create_network(NetworkConfig("other", subnet=IPv4Network(taken)))
            await c.delete_sandbox("a")
            assert (await c.connect("d", "lan", EndpointConfig(name="d"))).ip == "10.1.0.2"
        async with controller(lab, ("b", "c", "d")) as c:
            await c.create_sandbox("e")
            with pytest.raises(errdefs.PermissionDenied, match="in use"):
                await c.connect("e", "lan", EndpointConfig(name="e", ip="10.3.7.7"))
            assert (await c.connect("e", "lan", EndpointConfig(name="e"))).ip == "10.2.5.2"
            with pytest.raises(errdefs.PermissionDenied, match="bridge driver doesn't support multiple subnets"):
                pools = (Pool(IPv4Network("10.6.0.0/16")),)
                await c.create_network(NetworkConfig("two", subnet=IPv4Network("10.5.0.0/16"), more_pools=pools))
            part = (Pool(IPv4Network("10.7.1.0/24")),)
            overlapping = replace(wanted, name="o", subnet=IPv4Network("10.7.0.0/16"), more_pools=part)
            with pytest.raises(errdefs.PermissionDenied, match="overlaps"):
                await c.create_network(overlapping)

    lab(body)


def test_a_container_that_is_restarted_has_its_mac_address_again_at_once(lab: Callable) -> None:
    async def body(lab):
        async with controller(lab) as c:
            await c.create_network(on_the_uplink())
            lab.serve(lab.neighbour, 7000)
            for _ in range(5):
                ns, _ = await container(c, "c", ip="10.9.0.70", mac="02:00:00:00:00:70")
                assert await lab.call(ns, "10.9.0.2", 7000) == "hello 10.9.0.70"
                await c.delete_sandbox("c")

    lab(body)
