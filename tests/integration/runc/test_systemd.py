"""Control groups that systemd makes: on a host that runs it, with cgroup v2 (`make test-vm`)."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.processes import wait_for

from rorqual.linux import cgroups
from rorqual.oci.runtime import CPU, Memory, Pids, Resources

from .conftest import Bundle

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        not (cgroups.is_unified() and Path("/run/systemd/system").is_dir()),
        reason="this host has no systemd on cgroup v2",
    ),
]

MIB = 1 << 20
Runc = Callable[..., subprocess.CompletedProcess[str]]


def shown(unit: str, *names: str) -> dict[str, str]:
    """A unit's properties, as systemd's own client tells them."""
    line = ["systemctl", "show", unit, *(f"--property={name}" for name in names)]
    out = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    return dict(entry.partition("=")[::2] for entry in out.splitlines())


@pytest.fixture
def command(bundle: Bundle) -> Iterator[Runc]:
    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "rorqual.runc.main", "--root", bundle.root, "--systemd-cgroup", *arguments]
        output = subprocess.DEVNULL if arguments[0] == "create" else subprocess.PIPE  # a created container keeps it
        return subprocess.run(
            line, stdout=output, stderr=subprocess.STDOUT, text=True, cwd=bundle.path, check=False,
            stdin=subprocess.DEVNULL, env=os.environ | environment,
        )  # fmt: skip

    yield run
    run("delete", "--force", "box")


def configure(
    bundle: Bundle, *args: str, path: str = "", annotations: dict[str, str] | None = None, **linux: Any
) -> None:
    spec = bundle.spec(*args, linux={"cgroups_path": path, **linux})
    (bundle.path / "config.json").write_bytes(replace(spec, annotations=annotations or {}).to_json())


LIMITS = Resources(
    memory=Memory(limit=64 * MIB, reservation=32 * MIB),
    cpu=CPU(quota=50000, period=100000, shares=512, cpus="0"),
    pids=Pids(55),
)


def test_a_container_is_a_scope_with_its_limits(bundle: Bundle, command: Runc) -> None:
    configure(bundle, "sleep", "1000", path="rqtest-deep.slice:box:1", resources=LIMITS)
    assert command("create", "box").returncode == 0
    directory = Path("/sys/fs/cgroup/rqtest.slice/rqtest-deep.slice/box-1.scope")
    state = json.loads(command("state", "box").stdout)
    assert (directory / "cgroup.procs").read_text().split() == [str(state["pid"])]  # nobody else is left in it
    names = (
        "ActiveState",
        "Slice",
        "Delegate",
        "MemoryMax",
        "MemoryLow",
        "TasksMax",
        "CPUQuotaPerSecUSec",
        "CPUWeight",
    )
    unit = shown("box-1.scope", *names, "AllowedCPUs", "MemoryAccounting")
    assert unit == {
        "ActiveState": "active",
        "Slice": "rqtest-deep.slice",
        "Delegate": "yes",
        "MemoryMax": str(64 * MIB),
        "MemoryLow": str(32 * MIB),
        "TasksMax": "55",
        "CPUQuotaPerSecUSec": "500ms",
        "CPUWeight": "59",
        "AllowedCPUs": "0",
        "MemoryAccounting": "yes",
    }
    files = ("memory.max", "memory.low", "pids.max", "cpu.max", "cpu.weight", "cpuset.cpus")
    values = [(directory / file).read_text().strip() for file in files]
    assert values == [str(64 * MIB), str(32 * MIB), "55", "50000 100000", "59", "0"]

    assert command("start", "box").returncode == 0
    assert command("exec", "box", "cat", "/proc/self/cgroup").stdout.strip().endswith("/box-1.scope")
    assert (
        command("update", "--memory", str(80 * MIB), "--cpu-quota", "25000", "--pids-limit", "7", "box").returncode == 0
    )
    subprocess.run(["systemctl", "daemon-reload"], check=True)  # writes again what systemd knows
    changed = shown("box-1.scope", "MemoryMax", "TasksMax", "CPUQuotaPerSecUSec")
    assert changed == {"MemoryMax": str(80 * MIB), "TasksMax": "7", "CPUQuotaPerSecUSec": "250ms"}
    values = [(directory / file).read_text().strip() for file in ("memory.max", "cpu.max", "pids.max")]
    assert values == [str(80 * MIB), "25000 100000", "7"]
    assert command("pause", "box").returncode == 0
    assert (directory / "cgroup.freeze").read_text().strip() == "1"
    assert command("resume", "box").returncode == 0

    assert command("delete", "--force", "box").returncode == 0
    assert shown("box-1.scope", "LoadState") == {"LoadState": "not-found"}
    assert not directory.exists()


def test_devices_stay_limited_after_a_reload(bundle: Bundle, command: Runc) -> None:
    script = "mknod /tmp/mem c 1 1; read x; cat /tmp/mem; echo ended"
    bundle_resources = Resources(devices=bundle.spec().linux.resources.devices)  # type: ignore[union-attr]
    configure(bundle, "sh", "-c", "sleep 1000", path=":box:dev", resources=bundle_resources)
    assert command("create", "box").returncode == 0
    assert command("start", "box").returncode == 0
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    done = command("exec", "box", "sh", "-c", script.replace("read x; ", ""))
    assert "Operation not permitted" in done.stdout and "ended" in done.stdout


def test_run_leaves_no_unit(bundle: Bundle, command: Runc) -> None:
    configure(bundle, "sh", "-c", "cat /proc/self/cgroup; exit 9")
    done = command("run", "box")
    assert (done.returncode, done.stdout.strip()) == (9, "0::/system.slice/runc-box.scope")
    assert shown("runc-box.scope", "LoadState") == {"LoadState": "not-found"}


def test_a_create_that_fails_leaves_no_unit(bundle: Bundle, command: Runc) -> None:
    configure(bundle, "nope", path=":box:failing")
    done = command("run", "box")
    assert done.returncode == 1
    assert 'exec: \\"nope\\": executable file not found' in done.stdout
    assert shown("box-failing.scope", "LoadState") == {"LoadState": "not-found"}
    assert not Path("/sys/fs/cgroup/system.slice/box-failing.scope").exists()


def test_one_process_is_enough(bundle: Bundle, command: Runc) -> None:
    """What holds the scope open until the container's process is in it does not take that process's place."""
    configure(bundle, "cat", "/proc/self/cgroup", path=":box:one", resources=Resources(pids=Pids(1)))
    done = command("run", "box")
    assert (done.returncode, done.stdout.strip()) == (0, "0::/system.slice/box-one.scope")


def test_annotations_are_properties(bundle: Bundle, command: Runc) -> None:
    wanted = {"org.systemd.property.TimeoutStopUSec": "uint64 5000000", "org.systemd.property.Description": "'mine'"}
    configure(bundle, "sleep", "1000", path=":box:noted", annotations=wanted)
    assert command("create", "box").returncode == 0
    assert shown("box-noted.scope", "TimeoutStopUSec", "Description") == {
        "TimeoutStopUSec": "5s",
        "Description": "mine",
    }
    configure(bundle, "true", path=":box:bad", annotations={"org.systemd.property.NoSuchThing": "1"})
    done = command("run", "other")
    assert done.returncode == 1
    assert "NoSuchThing" in done.stdout


def test_a_running_units_name_is_not_taken(bundle: Bundle, command: Runc) -> None:
    configure(bundle, "sleep", "1000", path=":box:taken")
    assert command("create", "box").returncode == 0
    done = command("run", "other")
    assert done.returncode == 1
    assert "box-taken.scope" in done.stdout and "already" in done.stdout
    assert shown("box-taken.scope", "ActiveState") == {"ActiveState": "active"}


def test_without_a_bus_systemds_own_socket_is_used(bundle: Bundle, command: Runc) -> None:
    configure(bundle, "cat", "/proc/self/cgroup", path=":box:private")
    done = command("run", "box", DBUS_SYSTEM_BUS_ADDRESS="unix:path=/nowhere")
    assert (done.returncode, done.stdout.strip()) == (0, "0::/system.slice/box-private.scope")


def test_a_killed_create_leaves_what_delete_removes(bundle: Bundle, command: Runc) -> None:
    """The unit goes by itself: who held it ends with the command."""
    configure(bundle, "sleep", "1000", path=":box:killed")
    line = [sys.executable, "-m", "rorqual.runc.main", "--root", bundle.root, "--systemd-cgroup", "create", "box"]
    for _ in range(3):
        maker = subprocess.Popen(line, cwd=bundle.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(Path(bundle.root, "box").exists, "the container's directory")
        time.sleep(0.1)
        maker.kill()
        maker.wait()
        assert command("delete", "--force", "box").returncode == 0
        wait_for(lambda: shown("box-killed.scope", "LoadState")["LoadState"] == "not-found", "the unit's end")


def test_a_path_that_is_no_units_is_refused(bundle: Bundle, command: Runc) -> None:
    configure(bundle, "true", path="/plain")
    done = command("run", "box")
    assert done.returncode == 1
    assert "slice:prefix:name" in done.stdout
