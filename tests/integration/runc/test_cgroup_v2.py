"""Control groups of version 2: on a host that has nothing else (`make test-vm`)."""

import errno
import json
import os
import socket
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.processes import wait_for

from rorqual import errdefs
from rorqual.linux import bpf, cgroups
from rorqual.oci import defaults
from rorqual.oci.runtime import (
    CPU,
    BlockIO,
    DeviceRule,
    HugepageLimit,
    Memory,
    Mount,
    Namespace,
    NetworkResources,
    Pids,
    Process,
    Rdma,
    Resources,
    ThrottleDevice,
)
from rorqual.runc import container as runc
from rorqual.runc.cgroups import blkio, locate

from .conftest import Bundle, wait

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not cgroups.is_unified(), reason="this host has cgroup v1"),
]

MIB = 1 << 20


def directory(made: runc.Container) -> Path:
    return Path(made.record.groups[""])


def running(bundle: Bundle, resources: Resources | None = None, *args: str, **linux: Any) -> runc.Container:
    parts = {"resources": resources or Resources(), **linux}
    made = bundle.create(bundle.spec(*(args or ("sleep", "1000")), linux=parts))
    made.start()
    return made


def read(made: runc.Container, file: str) -> str:
    return (directory(made) / file).read_text().strip()


def test_limits_are_in_the_files(bundle: Bundle) -> None:
    made = running(
        bundle,
        Resources(
            memory=Memory(limit=64 * MIB, swap=96 * MIB, reservation=32 * MIB),
            cpu=CPU(shares=512, quota=20000, period=50000, burst=10000, cpus="0", mems="0"),
            pids=Pids(42),
            hugepage_limits=(HugepageLimit("2MB", 4 * MIB),),
        ),
    )
    expected = {
        "memory.max": str(64 * MIB),
        "memory.swap.max": str(32 * MIB),
        "memory.low": str(32 * MIB),
        "cpu.weight": "59",
        "cpu.max": "20000 50000",
        "cpu.max.burst": "10000",
        "cpuset.cpus": "0",
        "cpuset.mems": "0",
        "pids.max": "42",
        "hugetlb.2MB.max": str(4 * MIB),
    }
    assert {file: read(made, file) for file in expected} == expected
    assert os.getpid() not in made.pids()
    assert made.pid in made.pids()


def test_controllers_are_delegated_all_the_way_down(bundle: Bundle) -> None:
    made = running(bundle, cgroups_path=f"/{bundle.prefix}/a/b/c")
    available = set(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split())
    assert {"cpu", "memory", "pids", "io"} <= available
    assert set(read(made, "cgroup.controllers").split()) == available
    made.delete(force=True)
    wait(made.pid)
    for below in ("a/b", "a"):
        os.rmdir(f"/sys/fs/cgroup/{bundle.prefix}/{below}")


def test_below_a_group_with_processes_no_limit_can_be_set_and_that_is_told(bundle: Bundle) -> None:
    parent = Path(f"/sys/fs/cgroup/{bundle.prefix}")
    parent.mkdir()
    other = subprocess.Popen(["sleep", "1000"])
    try:
        (parent / "cgroup.procs").write_text(str(other.pid))
        spec = bundle.spec("true", linux={"resources": Resources(memory=Memory(limit=64 * MIB))})
        with pytest.raises(errdefs.InvalidArgument, match=r"memory\.max: .* a group above has processes of its own"):
            bundle.create(spec)
        assert bundle.run(bundle.spec("true", linux={"resources": Resources()}))[0] == 0  # without limits it can be
    finally:
        other.kill()
        other.wait()


def test_a_relative_path_is_beside_the_runtimes_own_group(bundle: Bundle) -> None:
    group = locate.new(f"{bundle.prefix}-relative/x", "unused")
    own = Path("/proc/self/cgroup").read_text().strip().removeprefix("0::")
    above = os.path.dirname(own).rstrip("/")
    assert group.directories() == {"": f"/sys/fs/cgroup{above}/{bundle.prefix}-relative/x"}


def test_the_limit_of_memory_is_kept_and_told(bundle: Bundle) -> None:
    made = bundle.create(
        bundle.spec(
            "sh",
            "-c",
            "dd if=/dev/zero of=/dev/null bs=64M count=1",
            linux={"resources": Resources(memory=Memory(limit=24 * MIB, swap=24 * MIB))},
        )
    )
    watch = made.oom_watch()
    assert watch is not None
    try:
        made.start()
        assert wait(made.pid) != 0
        wait_for(lambda: made.oom_kills() > 0, "an OOM kill")
        assert len(os.read(watch, 4096)) > 0
    finally:
        os.close(watch)


def test_update_of_one_limit_keeps_the_others(bundle: Bundle) -> None:
    made = running(bundle, Resources(memory=Memory(limit=64 * MIB, swap=128 * MIB), cpu=CPU(quota=10000, period=20000)))
    made.update(Resources(cpu=CPU(quota=15000)))
    assert read(made, "cpu.max") == "15000 20000"
    made.update(Resources(cpu=CPU(period=30000)))
    assert read(made, "cpu.max") == "15000 30000"
    made.update(Resources(cpu=CPU(quota=-1)))
    assert read(made, "cpu.max") == "max 30000"
    made.update(Resources(memory=Memory(swap=96 * MIB)))
    assert (read(made, "memory.max"), read(made, "memory.swap.max")) == (str(64 * MIB), str(32 * MIB))
    made.update(Resources(memory=Memory(limit=-1)))
    assert (read(made, "memory.max"), read(made, "memory.swap.max")) == ("max", "max")
    made.update(Resources(pids=Pids(7)))
    assert read(made, "pids.max") == "7"
    made.update(Resources(cpu=CPU(idle=1)))
    assert read(made, "cpu.idle") == "1"
    made.update(Resources(cpu=CPU(idle=0, shares=1024)))
    assert (read(made, "cpu.idle"), read(made, "cpu.weight")) == ("0", "100")


def test_check_before_update_refuses_what_would_kill(bundle: Bundle) -> None:
    made = running(bundle)
    used = int(read(made, "memory.current"))
    assert used > 4096
    with pytest.raises(errdefs.InvalidArgument, match="the container uses"):
        made.update(Resources(memory=Memory(limit=4096, check_before_update=True)))
    assert read(made, "memory.max") == "max"


def test_unified_files(bundle: Bundle) -> None:
    made = running(bundle, Resources(unified={"memory.high": str(48 * MIB), "cpu.weight": "321"}))
    assert (read(made, "memory.high"), read(made, "cpu.weight")) == (str(48 * MIB), "321")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("../memory.max", "no slashes"),
        ("memorymax", r"CONTROLLER\.PARAMETER"),
        ("nope.max", 'controller "nope" not available'),
        ("memory.nope", "no such file"),
    ],
)
def test_unified_files_that_are_none(bundle: Bundle, name: str, text: str) -> None:
    with pytest.raises(errdefs.InvalidArgument, match=text):
        bundle.create(bundle.spec(linux={"resources": Resources(unified={name: "1"})}))


@pytest.mark.parametrize(
    "resources",
    [
        Resources(network=NetworkResources(class_id=1)),
        Resources(memory=Memory(disable_oom_killer=True)),
        Resources(cpu=CPU(realtime_runtime=1000)),
    ],
)
def test_what_only_v1_has_is_refused(bundle: Bundle, resources: Resources) -> None:
    with pytest.raises(errdefs.InvalidArgument, match="not available on cgroup v2"):
        bundle.create(bundle.spec(linux={"resources": resources}))


def _disk() -> tuple[int, int]:
    number = os.stat("/dev/nullb0").st_rdev
    return os.major(number), os.minor(number)


@pytest.mark.skipif(not os.path.exists("/dev/nullb0"), reason="needs a block device of its own")
def test_block_io_throttles_and_weight(bundle: Bundle) -> None:
    major, minor = _disk()
    Path("/sys/block/nullb0/queue/scheduler").write_text("bfq")
    limit = ThrottleDevice(major, minor, 1 * MIB)
    made = running(
        bundle,
        Resources(block_io=BlockIO(weight=300, throttle_read_bps_device=(limit,), throttle_write_iops_device=(limit,))),
    )
    assert read(made, "io.max") == f"{major}:{minor} rbps={MIB} wbps=max riops=max wiops={MIB}"
    assert read(made, "io.bfq.weight") == "default 300"
    made.update(Resources(block_io=BlockIO(throttle_read_bps_device=(ThrottleDevice(major, minor, 0),))))
    assert "rbps=max" in read(made, "io.max")


@pytest.mark.skipif(not os.path.exists("/dev/nullb0"), reason="needs a kernel made for this")
def test_weights_without_bfq(bundle: Bundle) -> None:
    """io.weight is the file of another policy, which this kernel has beside BFQ's."""
    made = running(bundle, Resources(unified={"io.weight": "default 200"}))
    assert read(made, "io.weight") == "default 200"
    wanted = blkio.weight(300)
    made.update(Resources(unified={"io.weight": str(wanted)}))
    assert read(made, "io.weight") == f"default {wanted}"


@pytest.fixture
def rdma_device() -> str:
    """One in software, on a network interface. Source: rdma-link(8), include/uapi/rdma/rdma_netlink.h."""
    netlink_rdma, new_link, name, on_interface, kind = 20, 5 << 10 | 3, 2, 51, 65
    subprocess.run(["ip", "link", "add", "rqrdma0", "type", "dummy"], check=False)
    subprocess.run(["ip", "link", "set", "rqrdma0", "up"], check=False)
    attributes = b""
    for number, text in ((name, "rqrxe0"), (kind, "rxe"), (on_interface, "rqrdma0")):
        value = text.encode() + b"\0"
        attributes += struct.pack("HH", 4 + len(value), number) + value + bytes(-len(value) % 4)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink_rdma) as s:
            s.send(struct.pack("IHHII", 16 + len(attributes), new_link, 5, 1, 0) + attributes)
            (failure,) = struct.unpack_from("i", s.recv(4096), 16)
    except OSError:
        failure = 1
    if failure not in (0, -errno.EEXIST):
        pytest.skip("this kernel makes no RDMA device in software")
    return "rqrxe0"


def test_rdma(bundle: Bundle, rdma_device: str) -> None:
    made = running(bundle, Resources(rdma={rdma_device: Rdma(hca_handles=3, hca_objects=10000)}))
    assert read(made, "rdma.max") == f"{rdma_device} hca_handle=3 hca_object=10000"
    made.update(Resources(rdma={rdma_device: Rdma(hca_objects=5)}))
    assert read(made, "rdma.max") == f"{rdma_device} hca_handle=3 hca_object=5"
    with pytest.raises(errdefs.InvalidArgument, match=r"rdma\.max"):
        made.update(Resources(rdma={"nosuch": Rdma(hca_handles=1)}))


DEVICE_SCRIPT = """
mknod /tmp/null c 1 3; mknod /tmp/mem c 1 1; mknod /tmp/tty c 5 0
cat /tmp/null && echo null-read
{ echo x > /tmp/null; } 2>/dev/null && echo null-write
cat /tmp/mem >/dev/null 2>&1 || echo mem-refused
"""


def test_devices_by_ebpf(bundle: Bundle) -> None:
    capabilities = replace(bundle.spec().process.capabilities)  # type: ignore[union-attr]
    rules = defaults.DEVICE_RULES
    out = bundle.sh(
        DEVICE_SCRIPT, linux={"resources": Resources(devices=rules)}, process={"capabilities": capabilities}
    )
    assert out.split() == ["null-read", "null-write", "mem-refused"]


def test_the_last_device_rule_wins_and_update_replaces_the_filter(bundle: Bundle) -> None:
    deny_all = DeviceRule(False, access="rwm")
    made = running(bundle, Resources(devices=(deny_all,)))

    def can_read_zero() -> bool:
        pid, _ = made.exec(
            Process(args=("sh", "-c", "head -c1 /dev/zero >/dev/full 2>&1; exec < /dev/zero"), env=("PATH=/bin",))
        )
        return wait(pid) == 0

    assert can_read_zero()  # one of the devices that every container has
    made.update(Resources(devices=(DeviceRule(True), DeviceRule(False, "c", 1, 5, "r"))))
    assert not can_read_zero()
    made.update(Resources(devices=(deny_all, DeviceRule(True, "c", 1, None, "rw"))))
    assert can_read_zero()
    group = os.open(directory(made), os.O_RDONLY)
    try:
        assert len(bpf.attached(group, bpf.BPF_CGROUP_DEVICE)) == 1
    finally:
        os.close(group)


def test_freezer(bundle: Bundle) -> None:
    made = running(bundle, None, "sh", "-c", "while true; do echo x; done > /dev/null")
    made.pause()
    assert (made.status, read(made, "cgroup.freeze")) == ("paused", "1")
    assert "frozen 1" in read(made, "cgroup.events")
    before = read(made, "cpu.stat").splitlines()[0]
    time.sleep(0.2)
    assert read(made, "cpu.stat").splitlines()[0] == before
    made.resume()
    assert made.status == "running"
    made.pause()
    made.kill(9)
    assert wait(made.pid) == -9


def test_kill_of_all_and_delete_of_what_forks(bundle: Bundle) -> None:
    script = "f() { f | f & }; f; sleep 1000"
    namespaces = tuple(Namespace(t) for t in ("mount", "network", "ipc", "uts"))  # without a pid namespace of its own
    made = running(bundle, Resources(pids=Pids(60)), "sh", "-c", script, namespaces=namespaces)
    wait_for(lambda: len(made.pids()) > 20, "many processes", 60)
    assert len(made.pids()) <= 60
    made.kill(9, all_processes=True)
    assert wait(made.pid) == -9
    wait_for(lambda: made.pids() == [], "the end of all", 60)
    made.delete()
    assert not directory(made).exists()


def test_groups_that_the_container_made_are_removed_with_it(bundle: Bundle) -> None:
    made = _manager(bundle)
    made.kill(9)
    wait(made.pid)
    made.delete()
    assert not directory(made).exists()


def _manager(bundle: Bundle, delegate: str = "true") -> runc.Container:
    """A container that manages groups below its own, as systemd or another engine in it would."""
    spec = bundle.spec(
        "sh",
        "-c",
        f"mkdir -p /sys/fs/cgroup/a/b && echo 0 > /sys/fs/cgroup/a/b/cgroup.procs && {delegate} && exec sleep 1000",
        linux={"namespaces": tuple(Namespace(t) for t in ("mount", "pid", "network", "ipc", "uts", "cgroup"))},
    )
    mounts = tuple(m for m in spec.mounts if m.type != "cgroup")
    made = bundle.create(
        replace(spec, mounts=(*mounts, Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("nosuid", "noexec", "nodev"))))
    )
    made.start()
    wait_for(lambda: Path(f"/proc/{made.pid}/comm").read_text() == "sleep\n", "the program", 60)
    return made


def test_exec_where_init_has_gone_when_the_group_itself_can_hold_nobody(bundle: Bundle) -> None:
    made = _manager(bundle, "echo +pids +memory > /sys/fs/cgroup/cgroup.subtree_control")
    assert read(made, "cgroup.subtree_control") == "memory pids"
    pid, _ = made.exec(Process(args=("sleep", "1000"), env=("PATH=/bin",)))
    assert Path(f"/proc/{pid}/cgroup").read_text().strip().endswith("/a/b")
    assert pid in made.pids()
    made.kill(9)
    wait(pid)  # first: a pid namespace ends when all its processes are collected
    wait(made.pid)


def test_exec_into_a_group_of_ones_own(bundle: Bundle) -> None:
    made = running(bundle)
    (directory(made) / "sub").mkdir()
    pid, _ = made.exec(Process(args=("sleep", "1000"), env=("PATH=/bin",)), groups={"": "sub"})
    assert Path(f"/proc/{pid}/cgroup").read_text().strip().endswith("/sub")
    os.kill(pid, 9)
    wait(pid)


@pytest.mark.parametrize("private", [True, False])
def test_the_containers_view(bundle: Bundle, private: bool) -> None:
    kinds = ["mount", "pid", "network", "ipc", "uts", *(["cgroup"] if private else [])]
    script = "cat /proc/self/cgroup; ls /sys/fs/cgroup; mkdir /sys/fs/cgroup/x 2>&1"
    _, out, _ = bundle.run(bundle.spec("sh", "-c", script, linux={"namespaces": tuple(Namespace(t) for t in kinds)}))
    lines = out.splitlines()
    assert lines[0] == "0::/" if private else lines[0].startswith(f"0::/{bundle.prefix}/")
    assert ("init.scope" in lines) is not private
    assert "cgroup.procs" in lines
    assert lines[-1].endswith("Read-only file system")


def test_stats(bundle: Bundle) -> None:
    made = running(
        bundle,
        Resources(memory=Memory(limit=64 * MIB), pids=Pids(50), cpu=CPU(quota=10000, period=100000)),
        "sh",
        "-c",
        "head -c 8m /dev/zero > /tmp/f; while true; do :; done",
    )
    wait_for(lambda: made.stats().cpu.throttled_periods > 0, "throttling", 60)
    wait_for(lambda: made.stats().memory.raw["file"] >= 8 * MIB, "the file in memory", 60)
    stats = made.stats()
    assert 0 < stats.cpu.user_ns + stats.cpu.kernel_ns <= stats.cpu.total_ns * 2
    assert (stats.cpu.periods > 0, stats.cpu.throttled_ns > 0) == (True, True)
    assert 0 < stats.memory.usage.usage <= stats.memory.usage.limit == 64 * MIB
    assert stats.memory.usage.max >= stats.memory.usage.usage
    assert stats.memory.raw["file"] >= 8 * MIB
    assert (stats.pids.current >= 1, stats.pids.limit) == (True, 50)


def test_stats_of_unlimited_memory(bundle: Bundle) -> None:
    stats = running(bundle).stats()
    assert (stats.memory.usage.limit, stats.pids.limit) == (2**64 - 1, 0)


def test_events_command(bundle: Bundle) -> None:
    made = running(bundle)
    done = subprocess.run(
        [sys.executable, "-m", "rorqual.runc.main", "--root", bundle.root, "events", "--stats", made.id],
        capture_output=True,
        text=True,
        check=True,
    )
    document: dict[str, Any] = json.loads(done.stdout)
    assert (document["type"], document["id"]) == ("stats", made.id)
    assert document["data"]["pids"]["current"] == 1
    assert document["data"]["cpu"]["usage"]["total"] > 0


def test_a_create_that_fails_leaves_no_group(bundle: Bundle) -> None:
    with pytest.raises(errdefs.Error):
        bundle.create(bundle.spec("/nope"))
    assert not any(Path(f"/sys/fs/cgroup/{bundle.prefix}").glob("*/cgroup.procs"))


def test_creates_at_once(bundle: Bundle) -> None:
    """Each delegates the same ancestors."""
    code = """if True:
        import sys
        from rorqual.oci.runtime import Spec
        from rorqual.runc import container
        root, bundle, name = sys.argv[1:]
        from dataclasses import replace
        spec = Spec.from_json(open(f"{bundle}/config.json", "rb").read())
        spec = replace(spec, linux=replace(spec.linux, cgroups_path=spec.linux.cgroups_path + "/" + name))
        made = container.create(name, bundle, spec, root=root)
        made.delete(force=True)
    """
    spec = bundle.spec()
    assert spec.linux is not None
    deep = f"/{bundle.prefix}/at/once"
    (bundle.path / "config.json").write_bytes(replace(spec, linux=replace(spec.linux, cgroups_path=deep)).to_json())
    command = [sys.executable, "-c", code, bundle.root, str(bundle.path)]
    started: list[subprocess.Popen[bytes]] = [subprocess.Popen([*command, f"c{n}"]) for n in range(4)]
    assert [process.wait(timeout=120) for process in started] == [0] * 4
    for below in ("at/once", "at"):
        os.rmdir(f"/sys/fs/cgroup/{bundle.prefix}/{below}")
