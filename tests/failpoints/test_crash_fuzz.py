"""Processes of the engine killed at random moments while clients start containers: it always comes back, and clean."""

import os
import random
import signal
import subprocess
import threading
import time

import pytest
from support.engine import Engine
from support.processes import wait_for

pytestmark = [pytest.mark.root, pytest.mark.slow]

ACTIONS = (
    ("run", "--rm", "busybox", "true"),
    ("run", "--rm", "busybox", "no-such-program"),
    ("run", "-d", "--rm", "busybox", "sleep", "0.3"),
)
SEEDS = [int(seed) for seed in os.environ.get("RORQUAL_TEST_SEEDS", "1,2").split(",")]
VICTIMS = (("rorquald",), ("containerd",), ("rorquald", "containerd"), ("containerd", "rorquald"))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.timeout(180)
def test_clients_that_start_containers_while_the_engine_is_killed(fresh_engine: Engine, seed: int) -> None:
    engine, dice, stop = fresh_engine, random.Random(seed), threading.Event()
    hung: list[str] = []

    def client(number: int) -> None:
        cli, own = (engine.docker, engine.rorqual)[number % 2], random.Random(seed * 100 + number)
        while not stop.is_set():
            action = own.choice(ACTIONS)
            try:
                cli(*action, code=None, timeout_s=30)
            except subprocess.TimeoutExpired:
                hung.append(f"{cli.name} {' '.join(action)}")
                for daemon in ("rorquald", "containerd"):  # what they wait for goes to their log
                    for pid in engine.pids(daemon):
                        os.kill(pid, signal.SIGUSR1)

    engine.rorqual("run", "--rm", "busybox", "true")
    before = engine.held()
    clients = [threading.Thread(target=client, args=(number,)) for number in range(3)]
    for thread in clients:
        thread.start()
    try:
        for _ in range(8):
            time.sleep(dice.random())
            for victim in dice.choice(VICTIMS):
                if engine.pids(victim):
                    engine.kill(victim)
                time.sleep(dice.random() * 0.2)
            if not engine.pids("rorquald"):
                engine.start()
    finally:
        stop.set()
        for thread in clients:
            thread.join()
    alive = ("run", "--rm", "busybox", "echo", "alive")
    wait_for(lambda: engine.rorqual(*alive, code=None).out == "alive\n", "a new container runs")
    # A container that was being created when its daemon died may stay, as with Docker; nobody was told of it.
    for container in engine.api("GET", "/containers/json?all=1").json:
        # 404: one of `-d --rm` ended by itself meanwhile.
        assert engine.api("DELETE", f"/containers/{container['Id']}?force=1&v=1").status in (204, 404)

    def beyond() -> list[str]:
        # The long-lived processes are others than before; those of containers show by their cgroups.
        return [item for item in engine.held().more_than(before, 16) if not item.startswith("processes")]

    wait_for(lambda: not beyond(), lambda: str(beyond()))
    assert not hung, f"{hung}{engine.log_tail(400)}"
