"""The engine itself: version, info, events, volumes, errors. Source: Engine API 1.56, System and Volume."""

# ruff: noqa: RUF009  (wire() declares a field, as dataclasses.field does)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rorqual.api.codec import wire
from rorqual.api.swarm import ClusterInfo


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """Every failure's body."""

    message: str = wire("message", "")


@dataclass(frozen=True, slots=True)
class PlatformName:
    """Who made the engine."""

    name: str = wire("Name", "")


@dataclass(frozen=True, slots=True)
class ComponentVersion:
    """A part of the engine."""

    name: str = wire("Name", "")
    version: str = wire("Version", "")
    details: Mapping[str, str] | None = wire("Details", None, omit=True)


@dataclass(frozen=True, slots=True)
class Version:
    """Answer of GET /version."""

    platform: PlatformName = wire("Platform", PlatformName())
    components: tuple[ComponentVersion, ...] = wire("Components", ())
    version: str = wire("Version", "")
    api_version: str = wire("ApiVersion", "")
    min_api_version: str = wire("MinAPIVersion", "")
    git_commit: str = wire("GitCommit", "")
    go_version: str = wire("GoVersion", "")
    os: str = wire("Os", "")
    arch: str = wire("Arch", "")
    kernel_version: str = wire("KernelVersion", "")
    experimental: bool = wire("Experimental", False, omit=True)
    build_time: str = wire("BuildTime", "", omit=True)


@dataclass(frozen=True, slots=True)
class PluginsInfo:
    """The drivers offered."""

    volume: tuple[str, ...] = wire("Volume", ())
    network: tuple[str, ...] = wire("Network", ())
    authorization: tuple[str, ...] | None = wire("Authorization", None)
    log: tuple[str, ...] = wire("Log", ())


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """A configured registry."""

    name: str = wire("Name", "")
    mirrors: tuple[str, ...] = wire("Mirrors", ())
    secure: bool = wire("Secure", False)
    official: bool = wire("Official", False)


@dataclass(frozen=True, slots=True)
class RegistryServiceConfig:
    """The registries' configuration."""

    insecure_registry_cid_rs: tuple[str, ...] = wire("InsecureRegistryCIDRs", ())
    index_configs: Mapping[str, IndexInfo] = wire("IndexConfigs", {})
    mirrors: tuple[str, ...] | None = wire("Mirrors", None)


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """An OCI runtime."""

    path: str = wire("path", "", omit=True)
    runtime_args: tuple[str, ...] | None = wire("runtimeArgs", None, omit=True)
    status: Mapping[str, str] | None = wire("status", None, omit=True)


@dataclass(frozen=True, slots=True)
class Commit:
    """A component's revision."""

    id: str = wire("ID", "")


@dataclass(frozen=True, slots=True)
class SwarmInfo:
    """The node's place in a swarm."""

    node_id: str = wire("NodeID", "")
    node_addr: str = wire("NodeAddr", "")
    local_node_state: str = wire("LocalNodeState", "")
    control_available: bool = wire("ControlAvailable", False)
    error: str = wire("Error", "")
    remote_managers: Any = wire("RemoteManagers", None)
    nodes: int = wire("Nodes", 0, omit=True)
    managers: int = wire("Managers", 0, omit=True)
    cluster: ClusterInfo | None = wire("Cluster", None, omit=True)


@dataclass(frozen=True, slots=True)
class AddressPool:
    """A pool that networks take their subnets from."""

    base: str = wire("Base", "")
    size: int = wire("Size", 0)


@dataclass(frozen=True, slots=True)
class FirewallInfo:
    """What filters packets."""

    driver: str = wire("Driver", "")
    info: tuple[tuple[str, ...], ...] = wire("Info", (), omit=True)


@dataclass(frozen=True, slots=True)
class ContainerdNamespaces:
    """The namespaces used at containerd."""

    containers: str = wire("Containers", "")
    plugins: str = wire("Plugins", "")


@dataclass(frozen=True, slots=True)
class ContainerdInfo:
    """The containerd in use."""

    address: str = wire("Address", "", omit=True)
    namespaces: ContainerdNamespaces = wire("Namespaces", ContainerdNamespaces())


@dataclass(frozen=True, slots=True)
class Info:
    """Answer of GET /info."""

    id: str = wire("ID", "")
    containers: int = wire("Containers", 0)
    containers_running: int = wire("ContainersRunning", 0)
    containers_paused: int = wire("ContainersPaused", 0)
    containers_stopped: int = wire("ContainersStopped", 0)
    images: int = wire("Images", 0)
    driver: str = wire("Driver", "")
    driver_status: tuple[tuple[str, ...], ...] = wire("DriverStatus", ())
    plugins: PluginsInfo = wire("Plugins", PluginsInfo())
    memory_limit: bool = wire("MemoryLimit", False)
    swap_limit: bool = wire("SwapLimit", False)
    cpu_cfs_period: bool = wire("CpuCfsPeriod", False)
    cpu_cfs_quota: bool = wire("CpuCfsQuota", False)
    cpu_shares: bool = wire("CPUShares", False)
    cpu_set: bool = wire("CPUSet", False)
    pids_limit: bool = wire("PidsLimit", False)
    ipv4_forwarding: bool = wire("IPv4Forwarding", False)
    debug: bool = wire("Debug", False)
    n_fd: int = wire("NFd", 0)
    oom_kill_disable: bool = wire("OomKillDisable", False)
    n_goroutines: int = wire("NGoroutines", 0)
    system_time: str = wire("SystemTime", "")
    logging_driver: str = wire("LoggingDriver", "")
    cgroup_driver: str = wire("CgroupDriver", "")
    cgroup_version: str = wire("CgroupVersion", "")
    n_events_listener: int = wire("NEventsListener", 0)
    kernel_version: str = wire("KernelVersion", "")
    operating_system: str = wire("OperatingSystem", "")
    os_version: str = wire("OSVersion", "")
    os_type: str = wire("OSType", "")
    architecture: str = wire("Architecture", "")
    index_server_address: str = wire("IndexServerAddress", "")
    registry_config: RegistryServiceConfig = wire("RegistryConfig", RegistryServiceConfig())
    ncpu: int = wire("NCPU", 0)
    mem_total: int = wire("MemTotal", 0)
    generic_resources: Any = wire("GenericResources", None)
    docker_root_dir: str = wire("DockerRootDir", "")
    http_proxy: str = wire("HttpProxy", "")
    https_proxy: str = wire("HttpsProxy", "")
    no_proxy: str = wire("NoProxy", "")
    name: str = wire("Name", "")
    labels: tuple[str, ...] = wire("Labels", ())
    experimental_build: bool = wire("ExperimentalBuild", False)
    server_version: str = wire("ServerVersion", "")
    runtimes: Mapping[str, RuntimeInfo] = wire("Runtimes", {})
    default_runtime: str = wire("DefaultRuntime", "")
    swarm: SwarmInfo = wire("Swarm", SwarmInfo())
    live_restore_enabled: bool = wire("LiveRestoreEnabled", False)
    isolation: str = wire("Isolation", "")
    init_binary: str = wire("InitBinary", "")
    containerd_commit: Commit = wire("ContainerdCommit", Commit())
    runc_commit: Commit = wire("RuncCommit", Commit())
    init_commit: Commit = wire("InitCommit", Commit())
    security_options: tuple[str, ...] = wire("SecurityOptions", ())
    product_license: str = wire("ProductLicense", "", omit=True)
    default_address_pools: tuple[AddressPool, ...] = wire("DefaultAddressPools", (), omit=True)
    firewall_backend: FirewallInfo | None = wire("FirewallBackend", None, omit=True)
    cdi_spec_dirs: tuple[str, ...] = wire("CDISpecDirs", ())
    containerd: ContainerdInfo | None = wire("Containerd", None, omit=True)
    warnings: tuple[str, ...] = wire("Warnings", ())


@dataclass(frozen=True, slots=True)
class EventActor:
    """What an event is about."""

    id: str = wire("ID", "")
    attributes: Mapping[str, str] = wire("Attributes", {})


@dataclass(frozen=True, slots=True)
class EventMessage:
    """A line of GET /events. status, id and from repeat the actor for clients older than 1.22."""

    status: str = wire("status", "", omit=True)
    short_id: str = wire("id", "", omit=True)
    from_image: str = wire("from", "", omit=True)
    type: str = wire("Type", "")
    action: str = wire("Action", "")
    actor: EventActor = wire("Actor", EventActor())
    scope: str = wire("scope", "")
    time: int = wire("time", 0)
    time_nano: int = wire("timeNano", 0)


@dataclass(frozen=True, slots=True)
class VolumeUsage:
    """A volume's size in bytes and how many containers refer to it; -1 where unknown."""

    size: int = wire("Size", 0)
    ref_count: int = wire("RefCount", 0)


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume."""

    created_at: str = wire("CreatedAt", "", omit=True)
    driver: str = wire("Driver", "")
    labels: Mapping[str, str] | None = wire("Labels", None)
    mountpoint: str = wire("Mountpoint", "")
    name: str = wire("Name", "")
    options: Mapping[str, str] | None = wire("Options", None)
    scope: str = wire("Scope", "")
    status: Mapping[str, Any] | None = wire("Status", None, omit=True)
    usage_data: VolumeUsage | None = wire("UsageData", None, omit=True)


@dataclass(frozen=True, slots=True)
class VolumeListResponse:
    """Answer of GET /volumes."""

    volumes: tuple[Volume, ...] = wire("Volumes", ())
    warnings: tuple[str, ...] | None = wire("Warnings", None)


@dataclass(frozen=True, slots=True)
class VolumeCreateRequest:
    """Body of POST /volumes/create."""

    name: str = wire("Name", "")
    driver: str = wire("Driver", "")
    driver_opts: Mapping[str, str] | None = wire("DriverOpts", None)
    labels: Mapping[str, str] | None = wire("Labels", None)
    cluster_volume_spec: Any = wire("ClusterVolumeSpec", None)


@dataclass(frozen=True, slots=True)
class PruneVolumesResponse:
    """Answer of POST /volumes/prune."""

    volumes_deleted: tuple[str, ...] | None = wire("VolumesDeleted", None)
    space_reclaimed: int = wire("SpaceReclaimed", 0)


@dataclass(frozen=True, slots=True)
class PruneBuildCacheResponse:
    """Answer of POST /build/prune."""

    caches_deleted: tuple[str, ...] | None = wire("CachesDeleted", None)
    space_reclaimed: int = wire("SpaceReclaimed", 0)
