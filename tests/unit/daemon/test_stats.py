"""The figures of `stats`: parsing what the kernel tells, and what clients are told of it."""

from rorqual.daemon.services.containers import stats
from rorqual.rpc import metrics

_PROC_STAT = "cpu  10 20 30 40 50 60 70 80 90 100\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu1 1 2 3 4 5 6 7 8 9 10\nintr 5 6\n"
_NET_DEV = (
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier\n"
    "    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0\n"
    "  eth0:    1000      10    1    2    0     0          0         0     2000      20    3    4    0     0       0\n"
)


def test_cpu_time_of_the_host_leaves_out_guests_which_are_counted_as_user_time() -> None:
    assert stats.system_cpu(_PROC_STAT) == (sum(range(10, 80, 10)) * 10**9 // stats._TICKS, 2)


def test_interfaces_are_told_without_the_loopback() -> None:
    assert stats.interfaces(_NET_DEV) == {
        "eth0": {
            "rx_bytes": 1000, "rx_packets": 10, "rx_errors": 1, "rx_dropped": 2,
            "tx_bytes": 2000, "tx_packets": 20, "tx_errors": 3, "tx_dropped": 4,
        }
    }  # fmt: skip


def test_no_limit_is_the_machines_memory_and_the_kernels_names_come_back() -> None:
    memory = metrics.MemoryStat(
        pg_fault=7, total_inactive_file=5, usage=metrics.MemoryEntry(limit=1 << 62, usage=100, max=200)
    )
    told = stats.memory_stats(memory, 1 << 30, unified=False)
    assert (told["limit"], told["usage"], told["max_usage"]) == (1 << 30, 100, 200)
    assert told["stats"]["pgfault"] == 7 and told["stats"]["total_inactive_file"] == 5


def test_the_unified_hierarchy_has_no_totals_and_no_highest_use() -> None:
    memory = metrics.MemoryStat(inactive_file=5, usage=metrics.MemoryEntry(limit=50, usage=10))
    told = stats.memory_stats(memory, 1 << 30, unified=True)
    assert "max_usage" not in told and "total_inactive_file" not in told["stats"]
    assert told["stats"]["inactive_file"] == 5 and told["limit"] == 50


def test_operations_on_devices_are_told_in_small_letters() -> None:
    entry = metrics.BlkIOEntry(op="Read", major=8, minor=1, value=4096)
    told = stats.blkio_stats(metrics.Metrics(blkio=metrics.BlkIOStat(io_service_bytes_recursive=[entry])))
    assert told["io_service_bytes_recursive"] == [{"major": 8, "minor": 1, "op": "read", "value": 4096}]
    assert told["io_time_recursive"] is None
