"""A controller that is killed at any moment, again and again: the next one always starts, and every name, address and
interface is free for it to give."""

import asyncio
import os
import random
import signal
from collections.abc import Callable
from ipaddress import IPv4Network

import pytest

from rorqual import errdefs
from rorqual.libnetwork.controller import Controller
from rorqual.libnetwork.model import AddressPool, ControllerOptions, EndpointConfig, NetworkConfig, PortBinding

pytestmark = pytest.mark.root

ROUNDS = 15
OPTIONS = ControllerOptions(address_pools=(AddressPool(IPv4Network("10.128.0.0/10"), 24),))


async def one_change(c: Controller, dice: random.Random, name: str) -> None:
    """Something that a daemon does; refusals are part of it, other failures are not."""
    networks = [n.name for n in await c.networks() if n.name not in ("host", "none")]
    sandboxes = [s.id for s in await c.sandboxes()]
    what = dice.random()
    try:
        if what < 0.15 and len(networks) < 6:
            driver = dice.choice(("bridge", "bridge", "macvlan"))
            await c.create_network(NetworkConfig(name, enable_ipv6=dice.random() < 0.5, driver=driver))
        elif what < 0.2 and len(networks) > 3:
            await c.remove_network(dice.choice(networks))
        elif what < 0.5 and len(sandboxes) < 8:
            ports = (PortBinding(80, host_port=dice.randint(20000, 20020)),)
            await c.create_sandbox(name)
            config = EndpointConfig(name=name, dns_names=(name,), port_bindings=ports)
            await c.connect(name, dice.choice(networks), config)
        elif what < 0.7 and sandboxes:
            config = EndpointConfig(name="x", dns_names=("x",), gw_priority=dice.randint(-1, 1))
            await c.connect(dice.choice(sandboxes), dice.choice(networks), config)
        elif what < 0.85 and sandboxes:
            await c.disconnect(dice.choice(sandboxes), dice.choice(networks))
        elif sandboxes:
            await c.delete_sandbox(dice.choice(sandboxes))
    except errdefs.Error:
        pass


def life(lab, seed: int, report: int) -> None:
    """A daemon's life in a process of its own: it says `up`, then works until it is killed."""

    async def work() -> None:
        dice = random.Random(seed)
        spaces = f"{lab.exec_root}/netns"
        known = sorted(os.listdir(spaces)) if os.path.isdir(spaces) else []
        c = Controller(lab.db, lab.exec_root, OPTIONS)
        await c.start([name for name in known if dice.random() < 0.7])
        os.write(report, b"up\n")
        number = 0
        while True:
            number += 1
            await one_change(c, dice, f"s{seed}x{number}")

    try:
        asyncio.events._set_running_loop(None)
        asyncio.new_event_loop().run_until_complete(work())
    except BaseException as error:
        os.write(report, repr(error).encode())
    finally:
        os._exit(1)


def test_whenever_it_is_killed_the_next_one_starts_and_works(lab: Callable) -> None:
    async def body(lab):
        dice = random.Random()
        seeds = [dice.randrange(1 << 30) for _ in range(ROUNDS)]
        for seed in seeds:
            read, write = os.pipe()
            pid = os.fork()
            if pid == 0:
                life(lab, seed, write)
            os.close(write)
            assert await asyncio.to_thread(os.read, read, 100) == b"up\n", f"seeds {seeds[: seeds.index(seed) + 1]}"
            await asyncio.sleep(random.Random(seed).uniform(0.0, 0.2))  # the moment is the point of it
            os.kill(pid, signal.SIGKILL)
            await asyncio.to_thread(os.waitpid, pid, 0)
            rest = os.read(read, 4000)
            os.close(read)
            assert not rest, f"{rest!r}: seeds {seeds[: seeds.index(seed) + 1]}"
        c = Controller(lab.db, lab.exec_root, OPTIONS)
        await c.start()
        try:
            assert await c.sandboxes() == [] and os.listdir(f"{lab.exec_root}/netns") == []
            rules = lab.run(None, "nft -s list map inet rorqual0 publish-any; nft -s list set inet rorqual0 bridges")
            assert " : 172." not in rules and rules.count("br-") == lab.run(None, "ip -o link show type bridge").count(
                ": br-"
            )
        finally:
            await c.stop()

    lab(body)
