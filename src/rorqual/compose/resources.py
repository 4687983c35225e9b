"""A service's limits and devices as the API takes them. Source: Compose Specification, "Deploy", "Services"."""

from __future__ import annotations

import re
from typing import Any

from rorqual.compose.kinds import JSON, duration_ns
from rorqual.errdefs import InvalidArgument

# vendor.com/class=name. Source: Container Device Interface specification.
_CDI = re.compile(r"[\w.-]+/[\w.-]+=[\w.:-]+")

_TEXT_RESOURCES = {"cgroup_parent": "CgroupParent", "cpuset": "CpusetCpus"}
_NUMBERS = {
    "cpu_count": "CpuCount", "cpu_percent": "CpuPercent", "cpu_period": "CpuPeriod", "cpu_quota": "CpuQuota",
    "cpu_shares": "CpuShares", "mem_swappiness": "MemorySwappiness", "oom_kill_disable": "OomKillDisable",
    "oom_score_adj": "OomScoreAdj", "pids_limit": "PidsLimit",
}  # fmt: skip
_SIZES = {"mem_limit": "Memory", "mem_reservation": "MemoryReservation", "memswap_limit": "MemorySwap"}
_MICROSECONDS = {"cpu_rt_period": "CpuRealtimePeriod", "cpu_rt_runtime": "CpuRealtimeRuntime"}


def of(service: JSON) -> JSON:
    """Resources of HostConfig: the service's own and those of `deploy`, which go before."""
    out: JSON = {name: service[key] for key, name in {**_TEXT_RESOURCES, **_NUMBERS}.items() if key in service}
    out |= {name: int(service[key]) for key, name in _SIZES.items() if key in service}
    for key, name in _MICROSECONDS.items():
        if key in service:
            text = service[key]
            try:
                out[name] = int(text) if text.isdecimal() else duration_ns(text) // 1000
            except ValueError:
                raise InvalidArgument(f'{key}: time: invalid duration "{text}"') from None
    if "cpus" in service:
        out["NanoCpus"] = round(service["cpus"] * 10**9)
    resources = (service.get("deploy") or {}).get("resources") or {}
    limits, reservations = resources.get("limits") or {}, resources.get("reservations") or {}
    if "cpus" in limits:
        out["NanoCpus"] = round(float(limits["cpus"]) * 10**9)
    if "memory" in limits:
        out["Memory"] = int(limits["memory"])
    if "pids" in limits:
        out["PidsLimit"] = limits["pids"]
    if "memory" in reservations:
        out["MemoryReservation"] = int(reservations["memory"])
    gpus = [*(reservations.get("devices") or ()), *(_as_gpu(gpu) for gpu in service.get("gpus") or ())]
    devices = service.get("devices") or []
    cdi = [device["source"] for device in devices if _CDI.fullmatch(device["source"])]
    out["DeviceRequests"] = [_device_request(gpu) for gpu in gpus]
    if cdi:
        out["DeviceRequests"].append({"Driver": "cdi", "DeviceIDs": cdi})
    out["Devices"] = [
        {
            "PathOnHost": d["source"],
            "PathInContainer": d.get("target") or d["source"],
            "CgroupPermissions": d.get("permissions") or "rwm",
        }
        for d in devices
        if d["source"] not in cdi
    ]
    out["DeviceCgroupRules"] = service.get("device_cgroup_rules")
    out["Ulimits"] = ulimits(service.get("ulimits") or {})
    return out | _blkio(service.get("blkio_config") or {})


def ulimits(limits: JSON) -> list[JSON]:
    """As HostConfig.Ulimits and POST /build have them; one of the two of a limit stands for both."""
    both = {name: {"soft": v, "hard": v} if isinstance(v, int) else v for name, v in limits.items()}
    return [
        {"Name": name, "Soft": v.get("soft", v.get("hard")), "Hard": v.get("hard", v.get("soft"))}
        for name, v in both.items()
    ]


def _as_gpu(gpu: JSON) -> JSON:
    return {**gpu, "capabilities": [*dict.fromkeys([*(gpu.get("capabilities") or ()), "gpu"])]}


def _device_request(gpu: JSON) -> JSON:
    count: Any = gpu.get("count", 0 if gpu.get("device_ids") else -1)
    return {
        "Driver": gpu.get("driver", ""),
        "Count": -1 if count == "all" else count,
        "DeviceIDs": gpu.get("device_ids"),
        "Capabilities": [gpu.get("capabilities") or []],
        "Options": gpu.get("options") or {},
    }


def _blkio(config: JSON) -> JSON:
    out: JSON = {}
    if "weight" in config:
        out["BlkioWeight"] = config["weight"]
    if "weight_device" in config:
        out["BlkioWeightDevice"] = [{"Path": d["path"], "Weight": d["weight"]} for d in config["weight_device"]]
    for key, name in (
        ("device_read_bps", "BlkioDeviceReadBps"), ("device_read_iops", "BlkioDeviceReadIOps"),
        ("device_write_bps", "BlkioDeviceWriteBps"), ("device_write_iops", "BlkioDeviceWriteIOps"),
    ):  # fmt: skip
        if key in config:
            out[name] = [{"Path": d["path"], "Rate": int(d["rate"])} for d in config[key]]
    return out
