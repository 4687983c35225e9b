"""The use of resources as it is read from the files of either version; the files are this test's own."""

from pathlib import Path

from rorqual.runc.cgroups import stats_v1, stats_v2
from rorqual.runc.cgroups.stats import BlkioEntry, MemoryEntry, PressureLine
from rorqual.runc.commands import events

V2 = {
    "cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 7\nnr_throttled 4\nthrottled_usec 9\n",
    "cpu.pressure": "some avg10=1.50 avg60=0.20 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n",
    "memory.current": "1000\n",
    "memory.peak": "3000\n",
    "memory.max": "4000\n",
    "memory.swap.current": "10\n",
    "memory.swap.max": "100\n",
    "memory.stat": "anon 5\nfile 6\nkernel 7\nsock 8\ninactive_file 2\n",
    "memory.events": "low 0\nhigh 0\nmax 11\noom 2\noom_kill 1\n",
    "pids.current": "3\n",
    "pids.max": "max\n",
    "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n8:16 \n",
    "hugetlb.2MB.current": "4194304\n",
    "hugetlb.2MB.events": "max 6\n",
    "hugetlb.2MB.rsvd.current": "0\n",
}


def directory(path: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (path / name).write_text(text)
    return str(path)


def test_v2(tmp_path: Path) -> None:
    stats = stats_v2.read(directory(tmp_path, V2))
    cpu, memory = stats.cpu, stats.memory
    assert (cpu.total_ns, cpu.user_ns, cpu.kernel_ns) == (5000, 3000, 2000)
    assert (cpu.periods, cpu.throttled_periods, cpu.throttled_ns) == (7, 4, 9000)
    assert cpu.pressure is not None
    assert cpu.pressure.some == PressureLine(1.5, 0.2, 0.0, 77)
    assert memory.usage == MemoryEntry(usage=1000, max=3000, failcnt=11, limit=4000)
    assert (memory.swap.usage, memory.swap.limit) == (1010, 4100)  # memory and swap, as v1 counts
    assert (memory.kernel.usage, memory.kernel_tcp.usage, memory.oom_kills) == (7, 8, 1)
    assert (memory.raw["inactive_file"], memory.pressure) == (2, None)
    assert (stats.pids.current, stats.pids.limit) == (3, 0)
    assert BlkioEntry(8, 0, "Write", 2) in stats.blkio.service_bytes
    assert BlkioEntry(8, 0, "Read", 3) in stats.blkio.serviced
    assert [(h.page_size, h.usage, h.failcnt) for h in stats.hugetlb] == [("2MB", 4194304, 6)]


def test_v2_of_a_group_without_limits_and_controllers(tmp_path: Path) -> None:
    unlimited = stats_v2.read(directory(tmp_path, V2 | {"memory.max": "max\n", "memory.swap.max": "max\n"}))
    assert unlimited.memory.usage.limit == unlimited.memory.swap.limit == 2**64 - 1
    empty = stats_v2.read(str(tmp_path / "nowhere"))
    assert (empty.cpu.total_ns, empty.memory.usage, empty.hugetlb) == (0, MemoryEntry(), ())


def test_v1_details(tmp_path: Path) -> None:
    files = {
        "cpuacct.usage_all": "cpu user system\n0 10 20\n1 30 40\n",
        "cpuset.cpus": "0-2,5\n",
        "cpuset.mems": "0\n",
        "cpuset.sched_relax_domain_level": "-1\n",
        "blkio.bfq.io_merged_recursive": "8:0 Read 1\n8:0 Total 1\nTotal 1\n",
        "blkio.time_recursive": "8:0 17\n",
    }
    path = directory(tmp_path, files)
    details = stats_v1.details(dict.fromkeys(("cpuacct", "cpuset", "blkio"), path))
    assert (details.per_cpu_user_ns, details.per_cpu_kernel_ns) == ((10, 30), (20, 40))
    assert details.cpuset is not None
    assert (details.cpuset.cpus, details.cpuset.mems) == ((0, 1, 2, 5), (0,))
    assert details.cpuset.numbers["sched_relax_domain_level"] == -1
    assert details.blkio == {
        "io_merged": (BlkioEntry(8, 0, "Read", 1), BlkioEntry(8, 0, "Total", 1)),
        "time": (BlkioEntry(8, 0, "", 17),),
    }


def test_events_have_pressure_where_the_kernel_measures_it(tmp_path: Path) -> None:
    shown = events.describe(stats_v2.read(directory(tmp_path, V2)), stats_v2.details())
    assert shown["cpu"]["psi"]["some"] == {"avg10": 1.5, "avg60": 0.2, "avg300": 0.0, "total": 77}
    assert "psi" not in shown["memory"]
    assert shown["memory"]["cache"] == 6
