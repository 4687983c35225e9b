"""Control groups of version 1 (on hybrid hosts too): files, paths, refusals, figures."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

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
    InterfacePriority,
    Memory,
    NetworkResources,
    Pids,
    Resources,
    ThrottleDevice,
)
from rorqual.runc import container as runc
from rorqual.runc.cgroups import devices, devices_bpf, locate

from .conftest import Bundle, wait

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(cgroups.is_unified(), reason="this host has cgroup v2 only"),
]

MIB = 1 << 20


def running(bundle: Bundle, resources: Resources, *args: str) -> runc.Container:
    made = bundle.create(bundle.spec(*(args or ("sleep", "1000")), linux={"resources": resources}))
    made.start()
    return made


def read(made: runc.Container, controller: str, file: str) -> str:
    return Path(f"{made.record.groups[controller]}/{file}").read_text().strip()


def test_swap_is_written_in_the_order_that_the_kernel_takes(bundle: Bundle) -> None:
    """limit <= limit of memory plus swap holds at every moment, whichever way both go."""
    made = running(bundle, Resources(memory=Memory(limit=32 * MIB, swap=64 * MIB)))
    for limit, swap in ((128, 256), (48, 50), (50, 50), (300, 301), (16, 16)):
        made.update(Resources(memory=Memory(limit=limit * MIB, swap=swap * MIB)))
        assert read(made, "memory", "memory.limit_in_bytes") == str(limit * MIB)
        assert read(made, "memory", "memory.memsw.limit_in_bytes") == str(swap * MIB)
    made.update(Resources(memory=Memory(limit=-1)))
    assert int(read(made, "memory", "memory.memsw.limit_in_bytes")) > 1 << 60


def test_reservation_swappiness_and_oom_killer(bundle: Bundle) -> None:
    made = running(bundle, Resources(memory=Memory(reservation=24 * MIB, swappiness=10, disable_oom_killer=True)))
    assert read(made, "memory", "memory.soft_limit_in_bytes") == str(24 * MIB)
    assert read(made, "memory", "memory.swappiness") == "10"
    assert "oom_kill_disable 1" in read(made, "memory", "memory.oom_control")


def test_check_before_update_refuses_what_would_kill(bundle: Bundle) -> None:
    made = running(bundle, Resources())
    wait_for(lambda: int(read(made, "memory", "memory.usage_in_bytes")) > 4096, "use of memory")
    with pytest.raises(errdefs.InvalidArgument, match="the container uses"):
        made.update(Resources(memory=Memory(limit=4096, check_before_update=True)))
    assert int(read(made, "memory", "memory.limit_in_bytes")) > 1 << 60


def test_cpu_bandwidth_burst_and_idle(bundle: Bundle) -> None:
    made = running(bundle, Resources(cpu=CPU(quota=20000, period=50000, burst=10000)))
    files = ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us")
    assert [read(made, "cpu", file) for file in files] == ["20000", "50000", "10000"]
    made.update(Resources(cpu=CPU(quota=5000, burst=0)))  # below the burst of before
    assert [read(made, "cpu", file) for file in files] == ["5000", "50000", "0"]
    made.update(Resources(cpu=CPU(idle=1)))
    assert read(made, "cpu", "cpu.idle") == "1"
    made.update(Resources(cpu=CPU(idle=0, shares=2048)))
    assert (read(made, "cpu", "cpu.idle"), read(made, "cpu", "cpu.shares")) == ("0", "2048")


def _disk() -> tuple[int, int] | None:
    """Some block device that the kernel throttles: of those that nobody of this test reads."""
    for name in sorted(os.listdir("/sys/block")) if os.path.isdir("/sys/block") else ():
        major, minor = Path(f"/sys/block/{name}/dev").read_text().split(":")
        return int(major), int(minor)
    return None


def test_block_io_throttles(bundle: Bundle) -> None:
    disk = _disk()
    if disk is None:
        pytest.skip("needs a block device")
    limit = (ThrottleDevice(*disk, rate=MIB),)
    made = running(
        bundle,
        Resources(
            block_io=BlockIO(
                throttle_read_bps_device=limit,
                throttle_write_bps_device=limit,
                throttle_read_iops_device=limit,
                throttle_write_iops_device=limit,
            )
        ),
    )
    line = f"{disk[0]}:{disk[1]} {MIB}"
    for kind in ("read_bps", "write_bps", "read_iops", "write_iops"):
        assert read(made, "blkio", f"blkio.throttle.{kind}_device") == line
    made.update(Resources(block_io=BlockIO(throttle_read_bps_device=(ThrottleDevice(*disk, rate=0),))))
    assert read(made, "blkio", "blkio.throttle.read_bps_device") == ""


@pytest.mark.parametrize(
    ("controller", "resources"),
    [
        ("net_cls", Resources(network=NetworkResources(class_id=0x100001))),
        ("net_prio", Resources(network=NetworkResources(priorities=(InterfacePriority("lo", 3),)))),
        ("hugetlb", Resources(hugepage_limits=(HugepageLimit("2MB", 2 * MIB),))),
    ],
)
def test_a_controller_is_used_or_its_absence_told(bundle: Bundle, controller: str, resources: Resources) -> None:
    spec = bundle.spec("sleep", "1000", linux={"resources": resources})
    if any(controller in h.controllers for h in cgroups.v1_hierarchies()):
        made = bundle.create(spec)
        files = {
            "net_cls": "net_cls.classid",
            "net_prio": "net_prio.ifpriomap",
            "hugetlb": "hugetlb.2MB.limit_in_bytes",
        }
        shown = {"net_cls": str(0x100001), "net_prio": "lo 3", "hugetlb": str(2 * MIB)}
        directory = next(
            made.record.groups[h.controllers[0]] for h in cgroups.v1_hierarchies() if controller in h.controllers
        )
        assert shown[controller] in Path(f"{directory}/{files[controller]}").read_text()
    else:
        with pytest.raises(errdefs.InvalidArgument, match=f"cgroup controller {controller} not mounted"):
            bundle.create(spec)


def test_unified_needs_v2(bundle: Bundle) -> None:
    with pytest.raises(errdefs.InvalidArgument, match=r"linux\.resources\.unified needs cgroup v2"):
        bundle.create(bundle.spec(linux={"resources": Resources(unified={"memory.high": "1"})}))


def test_the_kernels_refusal_names_file_and_value(bundle: Bundle) -> None:
    with pytest.raises(errdefs.InvalidArgument, match=r"failed to write '1' to .*/cpu\.cfs_quota_us"):
        bundle.create(bundle.spec(linux={"resources": Resources(cpu=CPU(quota=1))}))


def test_an_absolute_path_is_below_the_mount_and_a_relative_one_below_the_own_group() -> None:
    own = cgroups.own_groups()
    absolute, relative = locate.new("/a/./b/../c", "x").directories(), locate.new("a/c", "x").directories()
    for hierarchy in cgroups.v1_hierarchies():
        name = hierarchy.controllers[0]
        assert absolute[name] == f"{hierarchy.mountpoint}/a/c"
        below = own[name].removeprefix(hierarchy.root) if hierarchy.root != "/" else own[name]
        assert relative[name] == os.path.normpath(f"{hierarchy.mountpoint}/{below}/a/c")


@pytest.mark.parametrize("path", ["/", "/..", "/a/..", "system.slice:rorqual:x"])
def test_paths_that_no_container_can_have(path: str) -> None:
    with pytest.raises(errdefs.InvalidArgument, match="cgroupsPath"):
        locate.new(path, "x")


def test_a_hybrid_host_is_not_taken_for_v2() -> None:
    beside = cgroups.unified_hierarchy()
    assert beside is None or beside.mountpoint != cgroups.MOUNT_ROOT
    assert {"memory", "devices"} <= {c for h in cgroups.v1_hierarchies() for c in h.controllers}


def test_events_tell_what_runc_tells(bundle: Bundle) -> None:
    made = running(bundle, Resources(memory=Memory(limit=64 * MIB), pids=Pids(50)))
    done = subprocess.run(
        [sys.executable, "-m", "rorqual.runc.main", "--root", bundle.root, "events", "--stats", made.id],
        capture_output=True,
        text=True,
        check=True,
    )
    data = json.loads(done.stdout)["data"]
    processors = os.sysconf("SC_NPROCESSORS_CONF")
    usage = data["cpu"]["usage"]
    assert usage["total"] > 0
    assert len(usage["percpu_user"]) == len(usage["percpu_kernel"]) == processors
    assert data["cpuset"]["cpus"] and data["cpuset"]["mems"]
    assert data["cpuset"]["sched_load_balance"] in (0, 1)
    assert data["memory"]["usage"]["limit"] == 64 * MIB
    assert data["memory"]["raw"]["hierarchical_memory_limit"] == 64 * MIB
    assert data["pids"] == {"current": 1, "limit": 50}
    assert set(data) == {"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"}


def _group_of_v2() -> str:
    beside = cgroups.unified_hierarchy()
    if beside is None:
        pytest.skip("needs a cgroup2 filesystem")
    return f"{beside.mountpoint}/rqtest{os.getpid()}"


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        ((*defaults.DEVICE_RULES, *devices.DEFAULT_RULES), {"/dev/null": "rw", "/dev/zero": "rw", "/dev/tty": "rw"}),
        ((DeviceRule(False),), {}),
        (
            (DeviceRule(True), DeviceRule(False, "c", 1, 3, "w")),
            {"/dev/null": "r", "/dev/zero": "rw", "/dev/other": "rw", "/dev/tty": "rw"},
        ),
        (
            (DeviceRule(False), DeviceRule(True, "c", 1, None, "r")),
            {"/dev/null": "r", "/dev/zero": "r", "/dev/other": "r"},
        ),
        (  # read by one rule, write by another: together both
            (DeviceRule(False), DeviceRule(True, "c", 1, 3, "r"), DeviceRule(True, "c", 1, 3, "w")),
            {"/dev/null": "rw"},
        ),
        ((DeviceRule(True, "c", 1, 5, "rw"), DeviceRule(False, "c", 1, None, "w")), {"/dev/zero": "r"}),
        ((DeviceRule(False), DeviceRule(True, "b", 1, 3, "rw")), {}),  # of the other type
    ],
)
def test_device_filters_allow_what_the_rules_say(
    tmp_path: Path, rules: tuple[DeviceRule, ...], allowed: dict[str, str]
) -> None:
    """eBPF works on hybrid hosts too: asked of the kernel, in a group of its own."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    group = _group_of_v2()
    os.mkdir(group)
    try:
        devices_bpf.apply(group, rules)
        devices_bpf.apply(group, rules)  # in place of the first, not beside it
        fd = os.open(group, os.O_RDONLY)
        assert len(bpf.attached(fd, bpf.BPF_CGROUP_DEVICE)) == 1
        os.close(fd)
        nodes = {"/dev/null": (1, 3), "/dev/zero": (1, 5), "/dev/other": (1, 200), "/dev/tty": (5, 0)}
        for name, (major, minor) in nodes.items():
            os.mknod(tmp_path / os.path.basename(name), 0o20666, os.makedev(major, minor))
        child = os.fork()
        if child == 0:
            Path(f"{group}/cgroup.procs").write_text("0")
            found = {name: _modes(str(tmp_path / os.path.basename(name))) for name in nodes}
            os._exit(0 if {n: m for n, m in found.items() if m} == allowed else 1)
        assert wait(child) == 0
    finally:
        os.rmdir(group)


def _modes(path: str) -> str:
    """What the filter permits: EPERM is its refusal, other errors come after it."""
    found = ""
    for letter, flags in (("r", os.O_RDONLY), ("w", os.O_WRONLY)):
        try:
            os.close(os.open(path, flags | os.O_NOCTTY))
        except PermissionError:
            continue
        except OSError:
            pass
        found += letter
    return found


def test_limits_that_are_given_at_once_are_all_there(bundle: Bundle) -> None:
    processor = CPU(shares=512, cpus="0", mems="0")
    spec = bundle.spec("sleep", "1000", linux={"resources": Resources(cpu=processor, pids=Pids(9))})
    made = bundle.create(replace(spec))
    assert [read(made, "cpuset", f"cpuset.{name}") for name in ("cpus", "mems")] == ["0", "0"]
    assert (read(made, "cpu", "cpu.shares"), read(made, "pids", "pids.max")) == ("512", "9")
