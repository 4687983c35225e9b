"""ContainerConfig and HostConfig: all that a container is created from. Source: Engine API 1.56, ContainerCreate."""

# ruff: noqa: RUF009  (wire() declares a field, as dataclasses.field does)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rorqual.api.codec import wire


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """A health check: Test is [], ["NONE"], ["CMD", …] or ["CMD-SHELL", line]; times in nanoseconds."""

    test: tuple[str, ...] | None = wire("Test", None, omit=True)
    interval: int = wire("Interval", 0, omit=True)
    timeout: int = wire("Timeout", 0, omit=True)
    start_period: int = wire("StartPeriod", 0, omit=True)
    start_interval: int = wire("StartInterval", 0, omit=True)
    retries: int = wire("Retries", 0, omit=True)


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """What an image may also say: the process and its surroundings, independent of the host."""

    hostname: str = wire("Hostname", "")
    domainname: str = wire("Domainname", "")
    user: str = wire("User", "")
    attach_stdin: bool = wire("AttachStdin", False)
    attach_stdout: bool = wire("AttachStdout", False)
    attach_stderr: bool = wire("AttachStderr", False)
    exposed_ports: Mapping[str, Any] | None = wire("ExposedPorts", None, omit=True)
    tty: bool = wire("Tty", False)
    open_stdin: bool = wire("OpenStdin", False)
    stdin_once: bool = wire("StdinOnce", False)
    env: tuple[str, ...] | None = wire("Env", None)
    cmd: tuple[str, ...] | None = wire("Cmd", None, text=True)
    healthcheck: HealthConfig | None = wire("Healthcheck", None, omit=True)
    args_escaped: bool = wire("ArgsEscaped", False, omit=True)
    image: str = wire("Image", "")
    volumes: Mapping[str, Any] | None = wire("Volumes", None)
    working_dir: str = wire("WorkingDir", "")
    entrypoint: tuple[str, ...] | None = wire("Entrypoint", None, text=True)
    network_disabled: bool = wire("NetworkDisabled", False, omit=True)
    mac_address: str = wire("MacAddress", "", omit=True)
    on_build: tuple[str, ...] | None = wire("OnBuild", None, omit=True)
    labels: Mapping[str, str] | None = wire("Labels", None)
    stop_signal: str = wire("StopSignal", "", omit=True)
    stop_timeout: int | None = wire("StopTimeout", None, omit=True)
    shell: tuple[str, ...] | None = wire("Shell", None, omit=True, text=True)


@dataclass(frozen=True, slots=True)
class DeviceMapping:
    """A host device made visible in the container."""

    path_on_host: str = wire("PathOnHost", "")
    path_in_container: str = wire("PathInContainer", "")
    cgroup_permissions: str = wire("CgroupPermissions", "")


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """Devices asked of a device driver or CDI."""

    driver: str = wire("Driver", "")
    count: int = wire("Count", 0)
    device_ids: tuple[str, ...] | None = wire("DeviceIDs", None)
    capabilities: tuple[tuple[str, ...], ...] = wire("Capabilities", ())
    options: Mapping[str, str] | None = wire("Options", None)


@dataclass(frozen=True, slots=True)
class ThrottleDevice:
    """A rate (bytes or operations a second) for a device."""

    path: str = wire("Path", "")
    rate: int = wire("Rate", 0)


@dataclass(frozen=True, slots=True)
class WeightDevice:
    """A block I/O weight for a device."""

    path: str = wire("Path", "")
    weight: int = wire("Weight", 0)


@dataclass(frozen=True, slots=True)
class Ulimit:
    """An rlimit by its short name (nofile), -1 is unlimited."""

    name: str = wire("Name", "")
    hard: int = wire("Hard", 0)
    soft: int = wire("Soft", 0)


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When an ended container is started again; the maximum counts for on-failure."""

    name: str = wire("Name", "")
    maximum_retry_count: int = wire("MaximumRetryCount", 0)


@dataclass(frozen=True, slots=True)
class LogConfig:
    """The log driver and its options."""

    type: str = wire("Type", "")
    config: Mapping[str, str] = wire("Config", {})


@dataclass(frozen=True, slots=True)
class PortBinding:
    """A host address and port (or range); empty means any."""

    host_ip: str = wire("HostIp", "")
    host_port: str = wire("HostPort", "")


@dataclass(frozen=True, slots=True)
class BindOptions:
    """Options of a bind mount."""

    propagation: str = wire("Propagation", "", omit=True)
    non_recursive: bool = wire("NonRecursive", False, omit=True)
    create_mountpoint: bool = wire("CreateMountpoint", False, omit=True)
    read_only_non_recursive: bool = wire("ReadOnlyNonRecursive", False, omit=True)
    read_only_force_recursive: bool = wire("ReadOnlyForceRecursive", False, omit=True)


@dataclass(frozen=True, slots=True)
class DriverConfig:
    """A volume driver and its options."""

    name: str = wire("Name", "", omit=True)
    options: Mapping[str, str] | None = wire("Options", None, omit=True)


@dataclass(frozen=True, slots=True)
class VolumeOptions:
    """Options of a volume mount."""

    no_copy: bool = wire("NoCopy", False, omit=True)
    labels: Mapping[str, str] | None = wire("Labels", None, omit=True)
    subpath: str = wire("Subpath", "", omit=True)
    driver_config: DriverConfig | None = wire("DriverConfig", None, omit=True)


@dataclass(frozen=True, slots=True)
class TmpfsOptions:
    """Options of a tmpfs mount; Mode is the number, octal 1777 as 1023."""

    size_bytes: int = wire("SizeBytes", 0, omit=True)
    mode: int = wire("Mode", 0, omit=True)
    options: Any = wire("Options", None, omit=True)


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """Options of an image mount."""

    subpath: str = wire("Subpath", "", omit=True)


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount in the long form (`--mount`)."""

    type: str = wire("Type", "", omit=True)
    source: str = wire("Source", "", omit=True)
    target: str = wire("Target", "", omit=True)
    read_only: bool = wire("ReadOnly", False, omit=True)
    consistency: str = wire("Consistency", "", omit=True)
    bind_options: BindOptions | None = wire("BindOptions", None, omit=True)
    volume_options: VolumeOptions | None = wire("VolumeOptions", None, omit=True)
    image_options: ImageOptions | None = wire("ImageOptions", None, omit=True)
    tmpfs_options: TmpfsOptions | None = wire("TmpfsOptions", None, omit=True)


@dataclass(frozen=True, slots=True)
class HostConfig:
    """The host's side of a container: resources, mounts, namespaces, ports, security."""

    binds: tuple[str, ...] | None = wire("Binds", None)
    container_id_file: str = wire("ContainerIDFile", "")
    log_config: LogConfig = wire("LogConfig", LogConfig())
    network_mode: str = wire("NetworkMode", "")
    port_bindings: Mapping[str, tuple[PortBinding, ...] | None] | None = wire("PortBindings", None)
    restart_policy: RestartPolicy = wire("RestartPolicy", RestartPolicy())
    auto_remove: bool = wire("AutoRemove", False)
    volume_driver: str = wire("VolumeDriver", "")
    volumes_from: tuple[str, ...] | None = wire("VolumesFrom", None)
    console_size: tuple[int, ...] = wire("ConsoleSize", ())
    annotations: Mapping[str, str] | None = wire("Annotations", None, omit=True)
    cap_add: tuple[str, ...] | None = wire("CapAdd", None, text=True)
    cap_drop: tuple[str, ...] | None = wire("CapDrop", None, text=True)
    cgroupns_mode: str = wire("CgroupnsMode", "")
    dns: tuple[str, ...] | None = wire("Dns", None)
    dns_options: tuple[str, ...] | None = wire("DnsOptions", None)
    dns_search: tuple[str, ...] | None = wire("DnsSearch", None)
    extra_hosts: tuple[str, ...] | None = wire("ExtraHosts", None)
    group_add: tuple[str, ...] | None = wire("GroupAdd", None)
    ipc_mode: str = wire("IpcMode", "")
    cgroup: str = wire("Cgroup", "")
    links: tuple[str, ...] | None = wire("Links", None)
    oom_score_adj: int = wire("OomScoreAdj", 0)
    pid_mode: str = wire("PidMode", "")
    privileged: bool = wire("Privileged", False)
    publish_all_ports: bool = wire("PublishAllPorts", False)
    readonly_rootfs: bool = wire("ReadonlyRootfs", False)
    security_opt: tuple[str, ...] | None = wire("SecurityOpt", None)
    storage_opt: Mapping[str, str] | None = wire("StorageOpt", None, omit=True)
    tmpfs: Mapping[str, str] | None = wire("Tmpfs", None, omit=True)
    uts_mode: str = wire("UTSMode", "")
    userns_mode: str = wire("UsernsMode", "")
    shm_size: int = wire("ShmSize", 0)
    sysctls: Mapping[str, str] | None = wire("Sysctls", None, omit=True)
    runtime: str = wire("Runtime", "")
    isolation: str = wire("Isolation", "")
    cpu_shares: int = wire("CpuShares", 0)
    memory: int = wire("Memory", 0)
    nano_cpus: int = wire("NanoCpus", 0)
    cgroup_parent: str = wire("CgroupParent", "")
    blkio_weight: int = wire("BlkioWeight", 0)
    blkio_weight_device: tuple[WeightDevice, ...] | None = wire("BlkioWeightDevice", None)
    blkio_device_read_bps: tuple[ThrottleDevice, ...] | None = wire("BlkioDeviceReadBps", None)
    blkio_device_write_bps: tuple[ThrottleDevice, ...] | None = wire("BlkioDeviceWriteBps", None)
    blkio_device_read_iops: tuple[ThrottleDevice, ...] | None = wire("BlkioDeviceReadIOps", None)
    blkio_device_write_iops: tuple[ThrottleDevice, ...] | None = wire("BlkioDeviceWriteIOps", None)
    cpu_period: int = wire("CpuPeriod", 0)
    cpu_quota: int = wire("CpuQuota", 0)
    cpu_realtime_period: int = wire("CpuRealtimePeriod", 0)
    cpu_realtime_runtime: int = wire("CpuRealtimeRuntime", 0)
    cpuset_cpus: str = wire("CpusetCpus", "")
    cpuset_mems: str = wire("CpusetMems", "")
    devices: tuple[DeviceMapping, ...] | None = wire("Devices", None)
    device_cgroup_rules: tuple[str, ...] | None = wire("DeviceCgroupRules", None)
    device_requests: tuple[DeviceRequest, ...] | None = wire("DeviceRequests", None)
    memory_reservation: int = wire("MemoryReservation", 0)
    memory_swap: int = wire("MemorySwap", 0)
    memory_swappiness: int | None = wire("MemorySwappiness", None)
    oom_kill_disable: bool | None = wire("OomKillDisable", None)
    init: bool | None = wire("Init", None, omit=True)
    pids_limit: int | None = wire("PidsLimit", None)
    ulimits: tuple[Ulimit, ...] | None = wire("Ulimits", None)
    cpu_count: int = wire("CpuCount", 0)
    cpu_percent: int = wire("CpuPercent", 0)
    io_maximum_iops: int = wire("IOMaximumIOps", 0)
    io_maximum_bandwidth: int = wire("IOMaximumBandwidth", 0)
    mounts: tuple[Mount, ...] | None = wire("Mounts", None, omit=True)
    masked_paths: tuple[str, ...] | None = wire("MaskedPaths", None)
    readonly_paths: tuple[str, ...] | None = wire("ReadonlyPaths", None)
