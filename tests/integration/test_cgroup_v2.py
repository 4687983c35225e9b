"""The engine on a host that has control groups of version 2 only (`make test-vm`)."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine import Cli, Engine
from support.processes import wait_for

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/sys/fs/cgroup/cgroup.controllers").exists(), reason="this host has cgroup v1"),
]


class Emulated(Engine):
    """Its processor may be a program."""

    def start(self, timeout_s: float = 240) -> None:
        super().start(timeout_s)


@pytest.fixture(scope="module")
def v2_engine() -> Iterator[Engine]:
    with Emulated(own_network=False) as engine:
        yield engine


@pytest.fixture
def rq(v2_engine: Engine) -> Cli:
    return v2_engine.rorqual


def test_a_container_sees_its_own_groups_and_limits(rq: Cli) -> None:
    out = rq.out(
        "run", "--rm", "-m", "64m", "--memory-swap", "96m", "--cpus", "0.5", "--pids-limit", "55", "busybox", "sh",
        "-c", "cd /sys/fs/cgroup; cat memory.max memory.swap.max cpu.max pids.max; cat /proc/self/cgroup",
    )  # fmt: skip
    assert out.splitlines() == ["67108864", "33554432", "50000 100000", "55", "0::/"]


def test_info_names_the_version(rq: Cli) -> None:
    assert rq.out("info", "--format", "{{.CgroupVersion}}") == "2"


def test_update_pause_stats_and_exec(rq: Cli) -> None:
    rq("run", "-d", "--name", "box", "-m", "64m", "busybox", "sleep", "1000")
    try:
        rq("update", "-m", "128m", "--memory-swap", "128m", "--cpus", "0.25", "box")
        assert rq.out("exec", "box", "cat", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cpu.max") == (
            "134217728\n25000 100000"
        )
        rq("pause", "box")
        assert rq.out("inspect", "-f", "{{.State.Status}}", "box") == "paused"
        rq("unpause", "box")
        shown = json.loads(rq.out("stats", "--no-stream", "--format", "json", "box"))
        assert shown["PIDs"] == "1"
        assert shown["MemUsage"].endswith("/ 128MiB")
    finally:
        rq("rm", "-f", "box")


def test_out_of_memory_is_told(rq: Cli) -> None:
    rq("run", "--name", "greedy", "-m", "24m", "--memory-swap", "24m", "busybox", "dd", "if=/dev/zero", "of=/dev/null",
       "bs=64M", "count=1", code=137)  # fmt: skip
    try:
        wait_for(lambda: rq.out("inspect", "-f", "{{.State.OOMKilled}}", "greedy") == "true", "OOMKilled")
    finally:
        rq("rm", "-f", "greedy")


def test_devices_are_limited(rq: Cli) -> None:
    script = "mknod /tmp/mem c 1 1; cat /tmp/mem; echo x > /dev/null && echo null"
    done = rq("run", "--rm", "busybox", "sh", "-c", script)
    assert "Operation not permitted" in done.err
    assert done.out == "null\n"


def test_privileged_containers_have_all_devices_and_can_make_groups(rq: Cli) -> None:
    script = "ls /dev/vda && mkdir /sys/fs/cgroup/sub && echo made"
    assert rq.out("run", "--rm", "--privileged", "--cgroupns", "private", "busybox", "sh", "-c", script).endswith(
        "made"
    )


def test_no_group_is_left(rq: Cli, v2_engine: Engine) -> None:
    rq("run", "--rm", "busybox", "true")
    parent = Path("/sys/fs/cgroup") / v2_engine.cgroup_parent
    assert not parent.exists() or [entry.name for entry in parent.iterdir() if entry.is_dir()] == []
