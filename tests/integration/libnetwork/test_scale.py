"""Costs that must not grow with what is there already: processor time, kernel's part too, of an engine that has much
beside one that has little, the two taking turns, so that other work on the machine meets both."""

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from integration.libnetwork.conftest import CLONE_NEWNET, CLONE_NEWNS, Lab, _ok, controller, libc

from rorqual.libnetwork.controller import Controller
from rorqual.libnetwork.firewall.elements import BridgeRules, Publication
from rorqual.libnetwork.firewall.keeper import Firewall
from rorqual.libnetwork.model import AddressPool, EndpointConfig, NetworkConfig, PortBinding

pytestmark = pytest.mark.root

TURNS = 40
ALLOWED = 1.5
POOLS = (AddressPool(IPv4Network("10.128.0.0/10"), 24),)


@pytest.fixture(autouse=True)
def nothing_ends_any_more() -> Iterator[None]:
    """The kernel takes hundreds of interfaces down at once, for many seconds, in which nobody on the machine
    changes any or makes a namespace: not at the cost of the tests that follow."""
    yield
    for _ in range(3):
        time.sleep(0.2)  # until it has begun
        subprocess.run(["unshare", "--net", "true"], check=True)


async def joined(c: Controller, name: str, network: str) -> float:
    """Seconds for a container to join, with a published port and a name."""
    await c.create_sandbox(name)
    begin = time.process_time()
    ports = (PortBinding(80),)
    await c.connect(name, network, EndpointConfig(name=name, dns_names=(name,), port_bindings=ports))
    return time.process_time() - begin


async def made(c: Controller, name: str) -> float:
    """Seconds for a network to be made."""
    begin = time.process_time()
    await c.create_network(NetworkConfig(name))
    return time.process_time() - begin


@contextlib.contextmanager
def small_engine() -> Iterator[Callable[[str], float]]:
    """Asked for "join" or "make", another engine does that, which has nothing else: how long it took."""
    argv = [sys.executable, __file__]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdin is not None and process.stdout is not None

        def ask(what: str) -> float:
            process.stdin.write(f"{what}\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return float(process.stdout.readline())  # type: ignore[union-attr]

        try:
            yield ask
        finally:
            process.stdin.close()


async def serve(lab: Lab) -> None:
    """What `small_engine` starts."""
    async with controller(lab, address_pools=POOLS) as c:
        await c.create_network(NetworkConfig("red"))
        await joined(c, "first", "red")
        for line in sys.stdin:
            if line == "join\n":
                spent = await joined(c, "one", "red")
                await c.delete_sandbox("one")
            else:
                spent = await made(c, "blue")
                await c.remove_network("blue")
            print(spent, flush=True)
    for resolver in lab.resolvers():
        os.kill(resolver, 9)


def no_dearer(large: list[float], small: list[float], what: str, unlike: float = 1.0) -> None:
    """`unlike`: how much more the large one took when it was small: a fork of pytest's has pages to copy."""
    many, few = statistics.median(large), statistics.median(small) * max(unlike, 1.0)
    assert many <= few * ALLOWED, f"{what}: {few * 1e3:.2f} ms beside little, {many * 1e3:.2f} ms beside much"


async def in_turns(
    large: Callable[[int], Awaitable[float]], small: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """What each took, TURNS times."""
    ours, theirs = [], []
    for number in range(TURNS):
        theirs.append(small())
        ours.append(await large(number))
    return ours, theirs


def ratio(large: list[float], small: list[float]) -> float:
    return statistics.median(large) / statistics.median(small)


def test_the_three_hundredth_endpoint_costs_what_the_first_did(lab: Callable) -> None:
    async def body(lab):
        with small_engine() as small:
            async with controller(lab) as c:
                await c.create_network(NetworkConfig("red"))
                first = await in_turns(lambda number: joined(c, f"a{number}", "red"), lambda: small("join"))
                for number in range(300 - 2 * TURNS):
                    await joined(c, f"c{number}", "red")
                last = await in_turns(lambda number: joined(c, f"d{number}", "red"), lambda: small("join"))
                assert len(await c.endpoints("red")) == 300
        no_dearer(*last, "connect", ratio(*first))

    lab(body)


def test_the_five_hundredth_network_costs_what_the_first_did(lab: Callable) -> None:
    """And so does a container with a port that joins one of five hundred networks."""

    async def body(lab):
        with small_engine() as small:
            async with controller(lab, address_pools=POOLS) as c:
                first = await in_turns(lambda number: made(c, f"f{number}"), lambda: small("make"))
                first_joins = await in_turns(lambda number: joined(c, f"e{number}", "f0"), lambda: small("join"))
                for number in range(500 - 2 * TURNS):
                    await made(c, f"n{number}")
                last = await in_turns(lambda number: made(c, f"m{number}"), lambda: small("make"))
                assert len({network.subnet for network in await c.networks()}) == 502
                no_dearer(*last, "network create", ratio(*first))
                joins = await in_turns(lambda number: joined(c, f"d{number}", "m0"), lambda: small("join"))
        no_dearer(*joins, "connect", ratio(*first_joins))

    lab(body)


def test_the_five_thousandth_port_costs_what_the_first_did(lab: Callable) -> None:
    async def body(lab):
        few, many = Firewall("few", "few-user"), Firewall("many", "many-user")
        for firewall in (few, many):
            firewall.replace([BridgeRules("rorqual0", IPv4Network("172.17.0.0/16"))], [])
        lines = len(rules())
        ports = [
            Publication("tcp", IPv4Address("0.0.0.0"), 10000 + number, IPv4Address("172.17.0.2"), 80)
            for number in range(5000)
        ]
        many.publish(ports[:-TURNS])
        large, little = [], []
        for port in ports[-TURNS:]:
            for firewall, spent in ((few, little), (many, large)):
                firewall.adopt_thread()
                begin = time.process_time()
                firewall.publish([port])
                spent.append(time.process_time() - begin)
        no_dearer(large, little, "publish")
        # A packet passes the same rules, however many ports there are: they are elements of one map.
        assert len(rules()) == lines
        for firewall in (few, many):
            firewall.close()

    def rules() -> list[str]:
        command = "nft -s list table inet many | grep -v elements | grep -v ' : '"
        return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout.splitlines()

    lab(body)


if __name__ == "__main__":
    _ok(libc.unshare(CLONE_NEWNET | CLONE_NEWNS))
    _ok(libc.mount(None, b"/", None, (1 << 18) | (1 << 14), None))  # MS_PRIVATE | MS_REC
    with tempfile.TemporaryDirectory() as directory:
        place = Lab(Path(directory))
        place.build()
        asyncio.run(serve(place))
        subprocess.run(["umount", "-l", f"{directory}/run/netns", f"{directory}/neighbours"], check=False)
