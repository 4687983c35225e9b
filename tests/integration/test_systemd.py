"""The engine with systemd as its cgroup driver: on a host that runs it, with cgroup v2 (`make test-vm`)."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine import Cli, Engine

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        not (Path("/run/systemd/system").is_dir() and Path("/sys/fs/cgroup/cgroup.controllers").exists()),
        reason="this host has no systemd on cgroup v2",
    ),
]


class Emulated(Engine):
    """Its processor may be a program."""

    def start(self, timeout_s: float = 240) -> None:
        super().start(timeout_s)


@pytest.fixture(scope="module")
def systemd_engine() -> Iterator[Engine]:
    driver = "--exec-opt=native.cgroupdriver=systemd"
    with Emulated(driver, "--cgroup-parent=rqtest.slice", own_network=False) as engine:
        yield engine


@pytest.fixture
def rq(systemd_engine: Engine) -> Cli:
    return systemd_engine.rorqual


def shown(unit: str, name: str) -> str:
    line = ["systemctl", "show", unit, "--value", f"--property={name}"]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()


def test_a_container_is_a_scope(rq: Cli) -> None:
    assert rq.out("info", "--format", "{{.CgroupDriver}}") == "systemd"
    container = rq.out("run", "-d", "-m", "64m", "--pids-limit", "55", "busybox", "sleep", "1000")
    unit = f"docker-{container}.scope"
    try:
        assert (shown(unit, "Slice"), shown(unit, "MemoryMax"), shown(unit, "TasksMax")) == (
            "rqtest.slice",
            str(64 << 20),
            "55",
        )
        rq("update", "-m", "128m", "--memory-swap", "128m", container)
        subprocess.run(["systemctl", "daemon-reload"], check=True)
        assert shown(unit, "MemoryMax") == str(128 << 20)
        assert rq.out("exec", container, "cat", "/sys/fs/cgroup/memory.max") == str(128 << 20)
        assert json.loads(rq.out("stats", "--no-stream", "--format", "json", container))["PIDs"] == "1"
    finally:
        rq("rm", "-f", container)
    assert shown(unit, "LoadState") == "not-found"
    assert not Path(f"/sys/fs/cgroup/rqtest.slice/{unit}").exists()


def test_a_parent_that_is_no_slice_is_refused(rq: Cli) -> None:
    done = rq("run", "--cgroup-parent", "/plain", "busybox", "true", code=125)
    assert 'should be a valid slice named as "xxx.slice"' in done.err
