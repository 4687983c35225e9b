"""What an update makes of a container's limits and restart policy. Pure.

Source: Engine API 1.56, ContainerUpdate; texts and rules as dockerd's UpdateContainer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rorqual.api.config import HostConfig
from rorqual.daemon.services.containers import checks
from rorqual.daemon.spec import resources
from rorqual.errdefs import Conflict

# What is not given is 0, "" or null on the wire.
_FIELD_NAMES = (
    "cpu_shares memory nano_cpus blkio_weight cpu_period cpu_quota cpu_realtime_period cpu_realtime_runtime "
    "cpuset_cpus cpuset_mems memory_reservation memory_swap blkio_weight_device blkio_device_read_bps "
    "blkio_device_write_bps blkio_device_read_iops blkio_device_write_iops"
)
_FIELDS = tuple(_FIELD_NAMES.split())


def updated(host: HostConfig, wanted: HostConfig) -> HostConfig:
    """`host` with what `wanted` gives. Raises: Conflict, InvalidArgument."""
    resources.check(replace(wanted, memory_swap=0))  # what is wrong in itself, before what fits not to what is set
    _check_conflicts(host, wanted)
    changes: dict[str, Any] = {name: value for name in _FIELDS if (value := getattr(wanted, name))}
    if wanted.pids_limit is not None:
        changes["pids_limit"] = wanted.pids_limit
    if wanted.restart_policy.name:
        if host.auto_remove and wanted.restart_policy.name != "no":
            raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
        checks.restart_policy(wanted.restart_policy, auto_remove=host.auto_remove)
        changes["restart_policy"] = wanted.restart_policy
    return resources.check(replace(host, **changes))


def _check_conflicts(host: HostConfig, wanted: HostConfig) -> None:
    for new, old, text in (
        (wanted.nano_cpus, host.cpu_period, "Nano CPUs cannot be updated as CPU Period has already been set"),
        (wanted.nano_cpus, host.cpu_quota, "Nano CPUs cannot be updated as CPU Quota has already been set"),
        (wanted.cpu_period, host.nano_cpus, "CPU Period cannot be updated as NanoCPUs has already been set"),
        (wanted.cpu_quota, host.nano_cpus, "CPU Quota cannot be updated as NanoCPUs has already been set"),
    ):
        if new > 0 and old > 0:
            raise Conflict(f"Conflicting options: {text}")
    if wanted.memory and not wanted.memory_swap and wanted.memory > host.memory_swap:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
