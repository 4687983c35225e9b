"""Every flag of `run`, `create` and `update` that limits something: what the container's groups and programs show."""

import os
import signal
from pathlib import Path

import pytest
from support.covers import covers
from support.engine import Cli, Engine
from support.processes import wait_for
from support.verbs import both, shell, started

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/sys/fs/cgroup/memory").is_dir(), reason="reads the files of cgroup v1"),
]

# A disk of the machine, nobody's loop device.
DISK = min(
    (path.name for path in Path("/sys/block").iterdir()), key=lambda name: (name.startswith(("loop", "zram")), name)
)
NUMBER = Path(f"/sys/block/{DISK}/dev").read_text().strip()


def group(engine: Engine, name: str, file: str) -> str:
    """A file of the container's group on the host, such as `cpu/cpu.shares`."""
    controller, _, leaf = file.partition("/")
    lines = Path(f"/proc/{engine.inspect(name)['State']['Pid']}/cgroup").read_text().splitlines()
    (path,) = (line.split(":", 2)[2] for line in lines if controller in line.split(":")[1].split(","))
    return Path(f"/sys/fs/cgroup/{controller}{path}/{leaf}").read_text().strip()


LIMITS = {
    "cpu-shares": ("300", "cpu/cpu.shares", "300"),
    "cpu-period": ("50000", "cpu/cpu.cfs_period_us", "50000"),
    "cpu-quota": ("30000", "cpu/cpu.cfs_quota_us", "30000"),
    "cpuset-cpus": ("0", "cpuset/cpuset.cpus", "0"),
    "cpuset-mems": ("0", "cpuset/cpuset.mems", "0"),
    "memory-reservation": ("32m", "memory/memory.soft_limit_in_bytes", str(32 << 20)),
    "memory-swappiness": ("7", "memory/memory.swappiness", "7"),
    "pids-limit": ("77", "pids/pids.max", "77"),
    "blkio-weight": ("300", "blkio/blkio.bfq.weight", "300"),
    "device-read-bps": (f"/dev/{DISK}:1mb", "blkio/blkio.throttle.read_bps_device", f"{NUMBER} {1 << 20}"),
    "device-write-bps": (f"/dev/{DISK}:2mb", "blkio/blkio.throttle.write_bps_device", f"{NUMBER} {2 << 20}"),
    "device-read-iops": (f"/dev/{DISK}:30", "blkio/blkio.throttle.read_iops_device", f"{NUMBER} 30"),
    "device-write-iops": (f"/dev/{DISK}:40", "blkio/blkio.throttle.write_iops_device", f"{NUMBER} 40"),
}


@covers("run", "create", *both(*LIMITS))
def test_limits_are_those_of_the_containers_group(cli: Cli, engine: Engine, verb: str) -> None:
    flags = [word for flag, (value, _, _) in LIMITS.items() for word in (f"--{flag}", value)]
    started(cli, verb, "limited", *flags)
    found = {flag: group(engine, "limited", file) for flag, (_, file, _) in LIMITS.items()}
    assert found == {flag: expected for flag, (_, _, expected) in LIMITS.items()}
    assert cli.out("exec", "limited", "nproc") == "1"


@covers(*both("memory", "memory-swap", "oom-kill-disable", "oom-score-adj", "cpus", "kernel-memory"))
def test_memory_and_processors(cli: Cli, engine: Engine, verb: str) -> None:
    hungry = "dd if=/dev/zero of=/dev/null bs=64M count=1"
    assert shell(cli, verb, hungry, "--memory", "16m", "--memory-swap", "16m", code=None).code == 137
    flags = ["--memory", "16m", "--memory-swap", "48m", "--oom-kill-disable", "--oom-score-adj", "321"]
    started(cli, verb, "calm", *flags, "--cpus", "0.75", "--kernel-memory", "50m")
    assert group(engine, "calm", "memory/memory.limit_in_bytes") == str(16 << 20)
    assert group(engine, "calm", "memory/memory.memsw.limit_in_bytes") == str(48 << 20)
    assert "oom_kill_disable 1" in group(engine, "calm", "memory/memory.oom_control")
    assert group(engine, "calm", "cpu/cpu.cfs_quota_us") == "75000"
    assert cli.out("exec", "calm", "cat", "/proc/1/oom_score_adj") == "321"
    # Gone since API 1.42: taken by both command lines, and without effect, as with dockerd.
    assert "KernelMemory" not in engine.inspect("calm")["HostConfig"]
    assert int(group(engine, "calm", "memory/memory.kmem.limit_in_bytes")) > 1 << 60


@covers(*both("ulimit", "shm-size", "cgroup-parent", "blkio-weight-device"))
def test_sizes_and_the_parent_group(cli: Cli, engine: Engine, verb: str) -> None:
    parent = f"/{engine.cgroup_parent}/nested"
    flags = ["--ulimit", "nofile=512:768", "--ulimit", "core=0", "--shm-size", "3m", "--cgroup-parent", parent]
    container = started(cli, verb, "sized", *flags)
    shown = cli.out("exec", "sized", "sh", "-c", "cat /proc/1/limits; df -k /dev/shm").splitlines()
    limits = {line[:20].strip(): line[26:].split()[:2] for line in shown}
    assert limits["Max open files"] == ["512", "768"] and limits["Max core file size"] == ["0", "0"]
    assert " 3072 " in shown[-1]
    pid = engine.inspect("sized")["State"]["Pid"]
    assert f"{parent}/{container}" in Path(f"/proc/{pid}/cgroup").read_text()
    # This kernel's bfq has the file; where the scheduler of the device is another, the kernel refuses the write.
    result = shell(cli, verb, "true", "--blkio-weight-device", f"/dev/{DISK}:300", code=None)
    assert result.code == 0 or "weight_device" in result.err
    # Groups above the container's own are the user's, and stay as with runc.
    cli("rm", "-f", "sized")
    for group in Path("/sys/fs/cgroup").glob(f"*{parent}"):
        group.rmdir()


@covers(*both("cpu-rt-period", "cpu-rt-runtime"), "update --cpu-rt-period", "update --cpu-rt-runtime")
def test_real_time_is_written_where_it_is_offered(cli: Cli, engine: Engine, verb: str) -> None:
    started(cli, verb, "timed", "--cpu-rt-period", "500000")
    assert group(engine, "timed", "cpu/cpu.rt_period_us") == "500000"
    # The parent group has no such time to give, and the kernel says so.
    refused = shell(cli, verb, "true", "--cpu-rt-runtime", "1000", code=None)
    assert refused.code in (1, 125, 126, 127) and "cpu.rt_runtime_us" in refused.err
    cli("update", "--cpu-rt-period", "400000", "timed")
    assert group(engine, "timed", "cpu/cpu.rt_period_us") == "400000"
    assert "cpu.rt_runtime_us" in cli("update", "--cpu-rt-runtime", "1000", "timed", code=1).err


@covers(*both("cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops"))
@pytest.mark.parametrize(
    ("flag", "value"), [("cpu-count", "1"), ("cpu-percent", "2"), ("io-maxbandwidth", "1m"), ("io-maxiops", "3")]
)
def test_what_only_windows_has_is_refused(cli: Cli, verb: str, flag: str, value: str) -> None:
    text = f'"--{flag}" is only supported on a Docker daemon running on windows'
    result = cli(verb, f"--{flag}", value, "busybox", "true", code=1)
    assert result.err == f"{text}, but the Docker daemon is running on linux\n" and not result.out


@covers(*both("isolation"))
def test_isolation_is_linuxs_own(cli: Cli, engine: Engine, verb: str) -> None:
    refused = cli(verb, "--isolation", "hyperv", "busybox", "true", code=125 if verb == "run" else 1).err
    assert "invalid isolation: \"hyperv\" - linux only supports 'default'" in refused
    started(cli, verb, "plain", "--isolation", "default")
    assert engine.inspect("plain")["HostConfig"]["Isolation"] == "default"


UPDATES = {
    "cpu-shares": ("310", "cpu/cpu.shares", "310"),
    "cpu-period": ("60000", "cpu/cpu.cfs_period_us", "60000"),
    "cpu-quota": ("20000", "cpu/cpu.cfs_quota_us", "20000"),
    "cpuset-cpus": ("1", "cpuset/cpuset.cpus", "1"),
    "cpuset-mems": ("0", "cpuset/cpuset.mems", "0"),
    "memory": ("48m", "memory/memory.limit_in_bytes", str(48 << 20)),
    "memory-swap": ("96m", "memory/memory.memsw.limit_in_bytes", str(96 << 20)),
    "memory-reservation": ("24m", "memory/memory.soft_limit_in_bytes", str(24 << 20)),
    "pids-limit": ("55", "pids/pids.max", "55"),
    "blkio-weight": ("400", "blkio/blkio.bfq.weight", "400"),
}


@covers("update", *(f"update --{flag}" for flag in UPDATES), "update --cpus", "update --restart")
def test_update_changes_a_running_container(cli: Cli, engine: Engine) -> None:
    started(cli, "run", "one", "--cpuset-cpus", "0")
    started(cli, "run", "two")
    flags = [word for flag, (value, _, _) in UPDATES.items() for word in (f"--{flag}", value)]
    assert cli.out("update", *flags, "one", "two").split() == ["one", "two"]
    for name in ("one", "two"):
        found = {flag: group(engine, name, file) for flag, (_, file, _) in UPDATES.items()}
        assert found == {flag: expected for flag, (_, _, expected) in UPDATES.items()}
    started(cli, "run", "three")
    cli("update", "--cpus", "0.5", "--restart", "always", "three")
    assert group(engine, "three", "cpu/cpu.cfs_quota_us") == "50000"
    os.kill(engine.inspect("three")["State"]["Pid"], signal.SIGKILL)
    wait_for(lambda: engine.inspect("three")["RestartCount"] == 1 and engine.running("three"), "it was started again")
