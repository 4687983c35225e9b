"""What is decided before anything is done: mount options, limits, planning, the command line."""

import pytest

from rorqual.errdefs import InvalidArgument
from rorqual.linux import mount as m
from rorqual.oci.runtime import (
    CPU,
    Capabilities,
    CPUAffinity,
    DeviceRule,
    Linux,
    Memory,
    Namespace,
    Pids,
    Process,
    Rlimit,
)
from rorqual.runc import planning
from rorqual.runc.cgroups import cpu, devices, memory, pids
from rorqual.runc.cgroups.settings import Write
from rorqual.runc.commands import parser
from rorqual.runc.rootfs import options


def test_later_mount_options_win() -> None:
    parsed = options.parse(("ro", "nosuid", "rw", "suid", "size=5m", "rbind", "rslave", "rro", "tmpcopyup"))
    assert parsed.flags == m.MS_BIND | m.MS_REC
    assert parsed.cleared == m.MS_RDONLY | m.MS_NOSUID
    assert parsed.propagation == (m.MS_SLAVE | m.MS_REC,)
    assert (parsed.data, parsed.copy_up, parsed.recursive_set) == (("size=5m",), True, m.MOUNT_ATTR_RDONLY)
    assert options.parse(("ro", "noatime")).attributes() == (
        m.MOUNT_ATTR_RDONLY | m.MOUNT_ATTR_NOATIME,
        m.MOUNT_ATTR__ATIME,
    )


def test_memory_keeps_limit_below_memory_plus_swap_at_every_write() -> None:
    grow = memory.v1(Memory(limit=200, swap=400), current_memsw=100)
    assert [w.file for w in grow] == ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes"]
    shrink = memory.v1(Memory(limit=50, swap=60), current_memsw=100)
    assert [w.file for w in shrink] == ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
    with pytest.raises(InvalidArgument, match="should be larger"):
        memory.v1(Memory(limit=100, swap=50), 100)


def test_v2_values() -> None:
    assert [cpu.weight(shares) for shares in (2, 1024, 262144)] == [1, 100, 10000]
    assert cpu.v2(CPU(quota=50000)) == [Write("cpu.max", "50000 100000")]
    assert memory.v2(Memory(limit=100, swap=300)) == [Write("memory.swap.max", "200"), Write("memory.max", "100")]
    assert pids.writes(Pids(-1)) == [Write("pids.max", "max")]


def test_device_rules_as_the_kernel_takes_them() -> None:
    rules = (DeviceRule(False, access="rwm"), DeviceRule(True, "c", 1, None, "rw"))
    assert devices.v1(rules) == [Write("devices.deny", "a"), Write("devices.allow", "c 1:* rw")]
    with pytest.raises(InvalidArgument, match="type"):
        devices.v1((DeviceRule(True, "x"),))


@pytest.mark.parametrize(
    ("process", "named"),
    [
        (Process(), "process.args"),
        (Process(args=("a",), cwd="x"), "process.cwd"),
        (Process(args=("a",), exec_cpu_affinity=CPUAffinity("x")), "process.execCPUAffinity.initial"),
        (Process(args=("a",), exec_cpu_affinity=CPUAffinity("", "3-1")), "process.execCPUAffinity.final"),
        (Process(args=("a",), exec_cpu_affinity=CPUAffinity("9" * 9)), "process.execCPUAffinity.initial"),
        (Process(args=("a",), selinux_label="x"), "process.selinuxLabel"),
        (Process(args=("a",), env=("novalue",)), "process.env"),
        (Process(args=("a",), rlimits=(Rlimit("RLIMIT_X", 1, 1),)), "process.rlimits"),
        (Process(args=("a",), rlimits=(Rlimit("RLIMIT_CPU", 1, 2),)), "process.rlimits"),
        (Process(args=("a",), capabilities=Capabilities(bounding=("CAP_X",))), "process.capabilities.bounding"),
    ],
)
def test_a_bad_process_is_refused_by_name(process: Process, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        planning.process_plan(process, container_id="x", seccomp=None, cache_dir=None)


def test_namespaces_are_known_and_single() -> None:
    for namespaces in ((Namespace("x"),), (Namespace("pid"), Namespace("pid")), (Namespace("pid", "relative"),)):
        with pytest.raises(InvalidArgument, match=r"linux\.namespaces"):
            planning.namespace_flags(Linux(namespaces=namespaces))


def test_signals_by_name_and_number() -> None:
    assert [planning.signal_number(text) for text in ("9", "KILL", "sigterm", "RTMIN+3")] == [9, 9, 15, 37]
    with pytest.raises(InvalidArgument):
        planning.signal_number("NOPE")


def test_command_lines() -> None:
    known = (parser.value("bundle", "b", help=""), parser.flag("all", "a", help=""), parser.many("env", "e", help=""))
    line = parser.parse(["-b", "x", "--all", "-e=A=1", "--env", "B=2", "id", "--all"], known)
    assert (line.get("bundle"), line.has("all"), line.all("env")) == ("x", True, ["A=1", "B=2"])
    assert line.arguments == ["id", "--all"]
    for bad in (["--nope"], ["--bundle"]):
        with pytest.raises(InvalidArgument):
            parser.parse(bad, known)
