"""Runs in a row leave no process, mount, namespace, veth, cgroup, nft rule, file descriptor or snapshot behind.

Thirty here; tests/benchmarks/leaks.py does a thousand.
"""

import pytest
from support.engine import Cli, Engine
from support.processes import wait_for

pytestmark = pytest.mark.root

WAYS = {
    "run --rm": ("run", "--rm", "busybox", "true"),
    "published": ("run", "--rm", "-p", "18090:80", "-p", "18090:80/udp", "busybox", "true"),
    "no network": ("run", "--rm", "--network", "none", "busybox", "true"),
    "failing": ("run", "--rm", "busybox", "no-such-program"),
    "limits and tmpfs": ("run", "--rm", "-m", "32m", "--tmpfs", "/t", "--init", "busybox", "true"),
}


@pytest.mark.parametrize("way", WAYS)
def test_thirty_runs_leave_nothing(engine: Engine, way: str) -> None:
    cli = engine.rorqual
    for _ in range(3):
        cli(*WAYS[way], code=None)
    before = engine.held()
    for _ in range(30):
        cli(*WAYS[way], code=None)
    wait_for(lambda: not engine.held().more_than(before), lambda: str(engine.held().more_than(before)))


def test_execs_attaches_and_resizes_that_are_given_up_leave_memory_and_descriptors_flat(engine: Engine) -> None:
    """CVE-2022-31030, CVE-2022-23471, CVE-2025-64329: goroutines, memory and files grew with every aborted call."""
    container = engine.rorqual.out("run", "-d", "busybox", "sleep", "100")
    shim = engine.pids("shim", container)[0]

    def abuse(times: int) -> None:
        for _ in range(times):
            made = engine.api("POST", f"/containers/{container}/exec", {"Cmd": ["sleep", "9"], "AttachStdout": True})
            assert made.status == 201
            engine.api("POST", f"/exec/{made.json['Id']}/resize?h=10&w=10")
            engine.api("POST", f"/containers/{container}/resize?h=10&w=10")

    abuse(30)
    before, memory = engine.held(), resident_kib(shim)
    abuse(300)
    wait_for(lambda: not engine.held().more_than(before), lambda: str(engine.held().more_than(before)))
    assert resident_kib(shim) - memory < 512


def resident_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def test_stopping_the_engine_leaves_nothing_on_the_machine(
    fresh_engine: Engine,
) -> None:
    """`fresh_engine`'s own end asserts it, with containers in each state when it comes."""
    cli: Cli = fresh_engine.rorqual
    cli("create", "--name", "created", "busybox", "true")
    cli("run", "-d", "--name", "running", "-p", "18091:80", "busybox", "sleep", "100")
    cli("run", "--name", "exited", "busybox", "true")
    cli("run", "-d", "--name", "paused", "busybox", "sleep", "100")
    cli("pause", "paused")
