"""IPC and devices that containers share with each other or get from a vendor's spec."""

import json
from pathlib import Path

import pytest
from support.engine import Cli, Engine
from support.processes import wait_for

pytestmark = pytest.mark.root


def memory(engine: Engine) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{engine.exec}/shm/" in line]


def test_shared_memory_of_a_shareable_container_is_one(cli: Cli, engine: Engine) -> None:
    script = "echo x >/dev/shm/f; sleep 1000"
    cli("run", "-d", "--name", "donor", "--ipc", "shareable", "--shm-size", "5m", "busybox", "sh", "-c", script)
    wait_for(lambda: cli("exec", "donor", "cat", "/dev/shm/f", code=None).code == 0, "the file is there")
    shown = cli.out("run", "--rm", "--ipc", "container:donor", "busybox", "sh", "-c", "cat /dev/shm/f; df -k /dev/shm")
    assert shown.startswith("x\n") and " 5120 " in shown
    assert len(memory(engine)) == 1
    cli("restart", "-t", "0", "donor")
    assert len(memory(engine)) == 1
    cli("rm", "-f", "donor")
    wait_for(lambda: not memory(engine), "it is unmounted")


def test_a_private_one_cannot_be_joined(cli: Cli) -> None:
    cli("run", "-d", "--name", "private", "busybox", "sleep", "1000")
    error = cli("run", "--rm", "--ipc", "container:private", "busybox", "true", code=125).err
    assert "non-shareable IPC (hint: use IpcMode:shareable for the donor container)" in error


def test_the_hosts_ipc(cli: Cli) -> None:
    shown = cli.out(
        "run", "--rm", "--ipc", "host", "busybox", "sh", "-c", "readlink /proc/self/ns/ipc; ls -d /dev/mqueue"
    )
    assert shown.splitlines() == [Path("/proc/self/ns/ipc").readlink().name, "/dev/mqueue"]


def test_devices_of_a_cdi_spec(tmp_path: Path) -> None:
    edits = {"env": ["DEV=x"], "deviceNodes": [{"path": "/dev/xzero", "hostPath": "/dev/zero"}]}
    spec = {"cdiVersion": "0.6.0", "kind": "vendor.com/class", "devices": [{"name": "x", "containerEdits": edits}]}
    (tmp_path / "vendor.json").write_text(json.dumps(spec))
    with Engine(f"--cdi-spec-dir={tmp_path}") as engine:
        for cli in (engine.docker, engine.rorqual):
            script = "echo $DEV; head -c 3 /dev/xzero | wc -c"
            shown = cli.out("run", "--rm", "--device", "vendor.com/class=x", "busybox", "sh", "-c", script)
            assert shown.split() == ["x", "3"]
            refused = cli("run", "--rm", "--device", "vendor.com/class=y", "busybox", "true", code=125).err
            assert "unresolvable CDI devices vendor.com/class=y" in refused
            assert "could not select device driver" in cli("run", "--gpus", "all", "busybox", code=125).err
