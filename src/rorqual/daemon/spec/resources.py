"""Resource limits: their checks, with Docker's texts, and their runtime-spec form."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from rorqual.api.config import HostConfig
from rorqual.api.config import ThrottleDevice as Throttle
from rorqual.errdefs import InvalidArgument
from rorqual.oci import runtime

_MIN_MEMORY = 6 << 20
_PERIOD_US = 100_000
_UNLIMITED = 2**64 - 1
_RLIMIT_NAMES = """
    as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack
"""
RLIMITS = frozenset(_RLIMIT_NAMES.split())


def check(host: HostConfig) -> HostConfig:
    """`host` with derived values set (swap is twice the memory). Raises: InvalidArgument."""
    _check_memory(host)
    _check_cpu(host)
    _check_block_io(host)
    for limit in host.ulimits or ():
        if limit.name not in RLIMITS:
            raise InvalidArgument(f"invalid ulimit type: {limit.name}")
        if limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
            raise InvalidArgument(
                f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}"
            )
    if host.memory > 0 and host.memory_swap == 0:
        host = replace(host, memory_swap=host.memory * 2)
    if host.pids_limit is not None and host.pids_limit < 0:
        host = replace(host, pids_limit=-1)
    return host


def _check_memory(host: HostConfig) -> None:
    memory, swap, reservation = host.memory, host.memory_swap, host.memory_reservation
    if memory != 0 and memory < _MIN_MEMORY:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if memory > 0 and swap > 0 and swap < memory:
        raise InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
    if memory == 0 and swap > 0:
        raise InvalidArgument("You should always set the Memory limit when using Memoryswap limit, see usage")
    if reservation and reservation < _MIN_MEMORY:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    if memory > 0 and reservation > 0 and memory < reservation:
        raise InvalidArgument("Minimum memory limit can not be less than memory reservation limit, see usage")
    if host.memory_swappiness is not None and not -1 <= host.memory_swappiness <= 100:
        raise InvalidArgument(f"Invalid value: {host.memory_swappiness}, valid memory swappiness range is 0-100")
    if host.shm_size < 0:
        raise InvalidArgument("SHM size can not be less than 0")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidArgument(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")


def _check_cpu(host: HostConfig) -> None:
    cpus = os.cpu_count() or 1
    if host.nano_cpus and host.cpu_period:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if host.nano_cpus and host.cpu_quota:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if host.nano_cpus and not 10_000_000 <= host.nano_cpus <= cpus * 1_000_000_000:
        raise InvalidArgument(f"range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available")
    if host.cpu_shares < 0:
        raise InvalidArgument(f"invalid CPU shares ({host.cpu_shares}): value must be a positive integer")
    if host.cpu_period and not 1000 <= host.cpu_period <= 1_000_000:
        raise InvalidArgument("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < host.cpu_quota < 1000:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if host.cpu_realtime_period and host.cpu_realtime_runtime > host.cpu_realtime_period:
        raise InvalidArgument("cpu real-time runtime cannot be higher than cpu real-time period")
    if max(_set(host.cpuset_cpus, "cpus"), default=0) >= cpus:
        raise InvalidArgument(
            f"Requested CPUs are not available - requested {host.cpuset_cpus}, available: 0-{cpus - 1}"
        )
    nodes = _memory_nodes()
    if nodes and not set(_set(host.cpuset_mems, "mems")) <= set(_set(nodes, "mems")):
        raise InvalidArgument(
            f"Requested memory nodes are not available - requested {host.cpuset_mems}, available: {nodes}"
        )


def _memory_nodes() -> str:
    """Those that have memory, as the kernel writes a set; "" where it does not tell."""
    try:
        with open("/sys/devices/system/node/has_memory", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _set(text: str, what: str) -> list[int]:
    numbers: list[int] = []
    try:
        for part in filter(None, text.split(",")):
            first, _, last = part.partition("-")
            if int(last or first) > 8192:  # the kernel's largest NR_CPUS: bounds what is built here
                raise ValueError(part)
            numbers += range(int(first), int(last or first) + 1)
    except ValueError:
        raise InvalidArgument(f"Invalid value {text} for cpuset {what}: invalid format: {text}") from None
    return numbers


def _check_block_io(host: HostConfig) -> None:
    for value, what in ((host.io_maximum_bandwidth, "bandwidth"), (host.io_maximum_iops, "IOPs")):
        if value:
            raise InvalidArgument(f"invalid QoS settings: linux does not support configuration of maximum {what}")
    weights = [host.blkio_weight, *(d.weight for d in host.blkio_weight_device or ())]
    if any(w != 0 and not 10 <= w <= 1000 for w in weights):
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")


def resources(host: HostConfig, devices: Sequence[runtime.DeviceRule]) -> runtime.Resources:
    """The runtime-spec's resources. Raises: InvalidArgument for a device that isn't there."""
    return runtime.Resources(
        devices=tuple(devices),
        memory=_memory(host),
        cpu=_cpu(host),
        pids=runtime.Pids(host.pids_limit) if host.pids_limit else None,
        block_io=_block_io(host),
    )


def _memory(host: HostConfig) -> runtime.Memory | None:
    swappiness = host.memory_swappiness
    memory = runtime.Memory(
        limit=host.memory or None,
        reservation=host.memory_reservation or None,
        swap=host.memory_swap or None,
        swappiness=swappiness if swappiness is not None and swappiness >= 0 else None,
        disable_oom_killer=bool(host.oom_kill_disable),
    )
    return None if memory == runtime.Memory() else memory


def _cpu(host: HostConfig) -> runtime.CPU | None:
    period, quota = host.cpu_period or None, host.cpu_quota or None
    if host.nano_cpus:
        period, quota = _PERIOD_US, host.nano_cpus * _PERIOD_US // 1_000_000_000
    cpu = runtime.CPU(
        shares=host.cpu_shares or None,
        quota=quota,
        period=period,
        realtime_runtime=host.cpu_realtime_runtime or None,
        realtime_period=host.cpu_realtime_period or None,
        cpus=host.cpuset_cpus,
        mems=host.cpuset_mems,
    )
    return None if cpu == runtime.CPU() else cpu


def _block_io(host: HostConfig) -> runtime.BlockIO | None:
    block_io = runtime.BlockIO(
        weight=host.blkio_weight or None,
        weight_device=tuple(
            runtime.WeightDevice(*_numbers(d.path), weight=d.weight) for d in host.blkio_weight_device or ()
        ),
        throttle_read_bps_device=_throttles(host.blkio_device_read_bps),
        throttle_write_bps_device=_throttles(host.blkio_device_write_bps),
        throttle_read_iops_device=_throttles(host.blkio_device_read_iops),
        throttle_write_iops_device=_throttles(host.blkio_device_write_iops),
    )
    return None if block_io == runtime.BlockIO() else block_io


def _throttles(devices: Sequence[Throttle] | None) -> tuple[runtime.ThrottleDevice, ...]:
    return tuple(runtime.ThrottleDevice(*_numbers(d.path), rate=d.rate) for d in devices or ())


def _numbers(path: str) -> tuple[int, int]:
    try:
        device = os.stat(path).st_rdev
    except OSError as e:
        raise InvalidArgument(f"error gathering device information for {path}: {e.strerror}") from e
    return os.major(device), os.minor(device)


def rlimits(host: HostConfig, defaults: dict[str, tuple[int, int]]) -> tuple[runtime.Rlimit, ...]:
    """--ulimit over the daemon's defaults (name: (soft, hard)); -1 is unlimited."""
    limits = dict(defaults)
    limits.update({u.name: (u.soft, u.hard) for u in host.ulimits or ()})
    return tuple(
        runtime.Rlimit(f"RLIMIT_{name.upper()}", _u64(hard), _u64(soft)) for name, (soft, hard) in limits.items()
    )


def _u64(value: int) -> int:
    return _UNLIMITED if value < 0 else value
