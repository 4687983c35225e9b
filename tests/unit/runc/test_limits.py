"""Limits as each version of control groups takes them: the files, their order, and what has no equivalent."""

import pytest

from rorqual.errdefs import InvalidArgument
from rorqual.linux import bpf
from rorqual.oci.runtime import (
    CPU,
    BlockIO,
    DeviceRule,
    HugepageLimit,
    Memory,
    Rdma,
    ThrottleDevice,
    WeightDevice,
)
from rorqual.runc.cgroups import blkio, cpu, devices_bpf, hugetlb, memory, rdma
from rorqual.runc.cgroups.settings import Write, Writes


def files(writes: Writes) -> dict[str, str]:
    return {write.file: write.value for write in writes}


@pytest.mark.parametrize(
    ("given", "current", "expected"),
    [
        (Memory(limit=100), None, {"memory.max": "100"}),
        (Memory(limit=100, swap=100), None, {"memory.swap.max": "0", "memory.max": "100"}),
        (Memory(limit=100, swap=-1), None, {"memory.swap.max": "max", "memory.max": "100"}),
        (Memory(limit=-1), None, {"memory.swap.max": "max", "memory.max": "max"}),
        (Memory(swap=150), 100, {"memory.swap.max": "50"}),
        (Memory(limit=120, swap=150), 100, {"memory.swap.max": "30", "memory.max": "120"}),
        (Memory(limit=0, swap=0), None, {}),
        (Memory(reservation=-1), None, {"memory.low": "max"}),
    ],
)
def test_memory_v2(given: Memory, current: int | None, expected: dict[str, str]) -> None:
    assert files(memory.v2(given, current)) == expected


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (Memory(swap=100), "swap limit without memory limit"),
        (Memory(limit=100, swap=50), "should be larger"),
        (Memory(disable_oom_killer=True), "not available on cgroup v2"),
    ],
)
def test_memory_that_v2_cannot_have(given: Memory, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        memory.v2(given)


def test_swap_that_the_kernel_does_not_count_may_be_unlimited_or_none() -> None:
    assert [w.optional for w in memory.v2(Memory(limit=100, swap=100)) if w.file == "memory.swap.max"] == [True]
    assert [w.optional for w in memory.v2(Memory(limit=100, swap=101)) if w.file == "memory.swap.max"] == [False]


def test_check_before_update() -> None:
    memory.check_usage(100, 100)
    memory.check_usage(-1, 1000)
    memory.check_usage(None, 1000)
    with pytest.raises(InvalidArgument, match="uses 101 bytes"):
        memory.check_usage(100, 101)


@pytest.mark.parametrize(
    ("shares", "weight"),
    [
        (1, 1),
        (2, 1),
        (3, 2),
        (512, 59),
        (1000, 99),
        (1024, 100),
        (1025, 101),
        (2048, 174),
        (262144, 10000),
        (500000, 10000),
    ],
)
def test_shares_as_weight(shares: int, weight: int) -> None:
    assert cpu.weight(shares) == weight


@pytest.mark.parametrize(
    ("given", "current", "expected"),
    [
        (CPU(quota=5000), "", "5000 100000"),
        (CPU(quota=5000), "max 20000", "5000 20000"),
        (CPU(period=20000), "5000 100000", "5000 20000"),
        (CPU(period=20000), "", "max 20000"),
        (CPU(quota=-1), "5000 20000", "max 20000"),
    ],
)
def test_quota_and_period_v2(given: CPU, current: str, expected: str) -> None:
    assert files(cpu.v2(given, current)) == {"cpu.max": expected}


def test_an_idle_group_gets_no_weight_while_it_is_idle() -> None:
    for decide in (cpu.v1, cpu.v2):
        ending = [w.file for w in decide(CPU(idle=0, shares=1024))]
        beginning = [w.file for w in decide(CPU(idle=1, shares=1024))]
        assert ending[0] == beginning[-1] == "cpu.idle"
        assert len(ending) == len(beginning) == 2


def test_a_burst_is_never_above_the_quota_in_between() -> None:
    assert [(w.file, w.value) for w in cpu.v1(CPU(quota=100, burst=50))] == [
        ("cpu.cfs_burst_us", "0"),
        ("cpu.cfs_quota_us", "100"),
        ("cpu.cfs_burst_us", "50"),
    ]
    assert [w.file for w in cpu.v2(CPU(quota=100, burst=50))] == ["cpu.max.burst", "cpu.max", "cpu.max.burst"]


def test_real_time_is_v1s() -> None:
    assert files(cpu.v1(CPU(realtime_period=100, realtime_runtime=50))) == {
        "cpu.rt_period_us": "100",
        "cpu.rt_runtime_us": "50",
    }
    with pytest.raises(InvalidArgument, match="not available on cgroup v2"):
        cpu.v2(CPU(realtime_runtime=50))


def test_block_io() -> None:
    given = BlockIO(
        weight=500,
        weight_device=(WeightDevice(8, 0, weight=300),),
        throttle_read_bps_device=(ThrottleDevice(8, 0, 1000),),
        throttle_write_iops_device=(ThrottleDevice(8, 16, 0),),
    )
    assert blkio.v1(given, bfq=True) == [
        Write("blkio.bfq.weight", "500"),
        Write("blkio.bfq.weight_device", "8:0 300"),
        Write("blkio.throttle.read_bps_device", "8:0 1000"),
        Write("blkio.throttle.write_iops_device", "8:16 0"),
    ]
    assert blkio.v2(given, bfq=True) == [
        Write("io.bfq.weight", "500"),
        Write("io.bfq.weight", "8:0 300"),
        Write("io.max", "8:0 rbps=1000"),
        Write("io.max", "8:16 wiops=max"),
    ]
    assert [blkio.weight(weight) for weight in (10, 500, 1000)] == [1, 4950, 10000]


def test_huge_pages_and_rdma() -> None:
    limits = (HugepageLimit("2MB", 4096),)
    assert [w.file for w in hugetlb.v1(limits)] == ["hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.rsvd.limit_in_bytes"]
    assert [w.file for w in hugetlb.v2(limits)] == ["hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"]
    given = {"mlx4_0": Rdma(3, 10000), "mlx5": Rdma(hca_objects=5)}
    assert [w.value for w in rdma.writes(given)] == [
        "mlx4_0 hca_handle=3 hca_object=10000",
        "mlx5 hca_object=5",
    ]


def _asked(rules: tuple[DeviceRule, ...], kind: int, access: int, major: int, minor: int) -> bool:
    """The program run by hand: an interpreter of the instructions that it is made of."""
    code = devices_bpf.program(rules)
    context = {0: access << 16 | kind, 4: major, 8: minor}
    registers: dict[int, int] = {}
    at = 0
    for _ in range(len(code)):
        i = code[at]
        at += 1
        if i.code == 0x61:
            registers[i.dst] = context[i.offset]
        elif i.code == 0xB4:
            registers[i.dst] = i.immediate
        elif i.code == 0xBC:
            registers[i.dst] = registers[i.src]
        elif i.code == 0x54:
            registers[i.dst] &= i.immediate
        elif i.code == 0x74:
            registers[i.dst] >>= i.immediate
        elif i.code == 0x56:
            at += i.offset if registers[i.dst] != i.immediate else 0
        elif i.code == 0x46:
            at += i.offset if registers[i.dst] & i.immediate else 0
        elif i.code == 0x05:
            at += i.offset
        else:
            assert i.code == 0x95
            return registers[0] == 1
    raise AssertionError("the program does not end")


READ, WRITE = bpf.ACCESS_READ, bpf.ACCESS_WRITE


def test_the_last_device_rule_decides_each_kind_of_access_by_itself() -> None:
    rules = (DeviceRule(False), DeviceRule(True, "c", 1, 3, "r"), DeviceRule(True, "c", 1, None, "w"))
    character = bpf.DEVICE_CHARACTER
    assert _asked(rules, character, READ | WRITE, 1, 3)
    assert _asked(rules, character, WRITE, 1, 5)
    assert not _asked(rules, character, READ | WRITE, 1, 5)
    assert not _asked(rules, bpf.DEVICE_BLOCK, READ, 1, 3)
    taken = (*rules, DeviceRule(False, "c", 1, 3, "w"))
    assert _asked(taken, character, READ, 1, 3)
    assert not _asked(taken, character, WRITE, 1, 3)
    assert _asked((*taken, DeviceRule(True)), bpf.DEVICE_BLOCK, READ | WRITE, 8, 0)
    assert not _asked((), character, READ, 1, 3)


@pytest.mark.parametrize("rule", [DeviceRule(True, "x"), DeviceRule(True, "c", 1, 3, "rx")])
def test_device_rules_that_are_none(rule: DeviceRule) -> None:
    with pytest.raises(InvalidArgument, match=r"linux\.resources\.devices"):
        devices_bpf.program((rule,))


def test_instructions_are_encoded_as_the_kernel_reads_them() -> None:
    assert bpf.load_word(2, 1, 4).encode() == bytes.fromhex("6112040000000000")
    assert bpf.jump_unless_equal(4, -1, 3).encode() == bytes.fromhex("56040300ffffffff")
    assert bpf.leave().encode() == bytes.fromhex("9500000000000000")
