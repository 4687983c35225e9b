"""Containers: list, inspect, wait, top. Source: Engine API 1.56, Container."""

# ruff: noqa: RUF009  (wire() declares a field, as dataclasses.field does)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rorqual.api.codec import wire
from rorqual.api.config import ContainerConfig, HostConfig, PortBinding
from rorqual.api.network import EndpointSettings, NetworkingConfig


@dataclass(frozen=True, slots=True)
class CreateRequest(ContainerConfig):
    """Body of POST /containers/create: the config with the host's side and the networks beside it."""

    host_config: HostConfig | None = wire("HostConfig", None)
    networking_config: NetworkingConfig | None = wire("NetworkingConfig", None)
    runtime: str = wire("Runtime", "")  # where clients of API 1.23 and before, and docker-py, put HostConfig's


@dataclass(frozen=True, slots=True)
class CreateResponse:
    """Answer of POST /containers/create."""

    id: str = wire("Id", "")
    warnings: tuple[str, ...] = wire("Warnings", ())


@dataclass(frozen=True, slots=True)
class PortSummary:
    """A port in a container's list entry."""

    ip: str = wire("IP", "", omit=True)
    private_port: int = wire("PrivatePort", 0)
    public_port: int = wire("PublicPort", 0, omit=True)
    type: str = wire("Type", "")


@dataclass(frozen=True, slots=True)
class MountPoint:
    """A mount as list and inspect give it."""

    type: str = wire("Type", "", omit=True)
    name: str = wire("Name", "", omit=True)
    source: str = wire("Source", "")
    destination: str = wire("Destination", "")
    driver: str = wire("Driver", "", omit=True)
    mode: str = wire("Mode", "")
    rw: bool = wire("RW", False)
    propagation: str = wire("Propagation", "")


@dataclass(frozen=True, slots=True)
class SummaryHostConfig:
    """The host's side in a list entry."""

    network_mode: str = wire("NetworkMode", "", omit=True)
    annotations: Mapping[str, str] | None = wire("Annotations", None, omit=True)


@dataclass(frozen=True, slots=True)
class SummaryNetworkSettings:
    """The networks in a list entry."""

    networks: Mapping[str, EndpointSettings] = wire("Networks", {})


@dataclass(frozen=True, slots=True)
class ContainerSummary:
    """An entry of GET /containers/json."""

    id: str = wire("Id", "")
    names: tuple[str, ...] = wire("Names", ())
    image: str = wire("Image", "")
    image_id: str = wire("ImageID", "")
    command: str = wire("Command", "")
    created: int = wire("Created", 0)
    ports: tuple[PortSummary, ...] = wire("Ports", ())
    size_rw: int | None = wire("SizeRw", None, omit=True)
    size_rootfs: int | None = wire("SizeRootFs", None, omit=True)
    labels: Mapping[str, str] = wire("Labels", {})
    state: str = wire("State", "")
    status: str = wire("Status", "")
    host_config: SummaryHostConfig = wire("HostConfig", SummaryHostConfig())
    network_settings: SummaryNetworkSettings = wire("NetworkSettings", SummaryNetworkSettings())
    mounts: tuple[MountPoint, ...] = wire("Mounts", ())


@dataclass(frozen=True, slots=True)
class HealthcheckResult:
    """One probe of a health check."""

    start: str = wire("Start", "")
    end: str = wire("End", "")
    exit_code: int = wire("ExitCode", 0)
    output: str = wire("Output", "")


@dataclass(frozen=True, slots=True)
class Health:
    """A container's health."""

    status: str = wire("Status", "")
    failing_streak: int = wire("FailingStreak", 0)
    log: tuple[HealthcheckResult, ...] = wire("Log", ())


@dataclass(frozen=True, slots=True)
class ContainerState:
    """A container's life; times RFC 3339 with nanoseconds."""

    status: str = wire("Status", "")
    running: bool = wire("Running", False)
    paused: bool = wire("Paused", False)
    restarting: bool = wire("Restarting", False)
    oom_killed: bool = wire("OOMKilled", False)
    dead: bool = wire("Dead", False)
    pid: int = wire("Pid", 0)
    exit_code: int = wire("ExitCode", 0)
    error: str = wire("Error", "")
    started_at: str = wire("StartedAt", "")
    finished_at: str = wire("FinishedAt", "")
    health: Health | None = wire("Health", None, omit=True)


@dataclass(frozen=True, slots=True)
class DriverData:
    """The storage below a container or image."""

    name: str = wire("Name", "")
    data: Mapping[str, str] | None = wire("Data", None)


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """A container's networks in its inspect answer. The plain address fields repeat the default bridge's."""

    bridge: str = wire("Bridge", "")
    sandbox_id: str = wire("SandboxID", "")
    sandbox_key: str = wire("SandboxKey", "")
    ports: Mapping[str, tuple[PortBinding, ...] | None] = wire("Ports", {})
    hairpin_mode: bool = wire("HairpinMode", False)
    link_local_ipv6_address: str = wire("LinkLocalIPv6Address", "")
    link_local_ipv6_prefix_len: int = wire("LinkLocalIPv6PrefixLen", 0)
    secondary_ip_addresses: Any = wire("SecondaryIPAddresses", None)
    secondary_ipv6_addresses: Any = wire("SecondaryIPv6Addresses", None)
    endpoint_id: str = wire("EndpointID", "")
    gateway: str = wire("Gateway", "")
    global_ipv6_address: str = wire("GlobalIPv6Address", "")
    global_ipv6_prefix_len: int = wire("GlobalIPv6PrefixLen", 0)
    ip_address: str = wire("IPAddress", "")
    ip_prefix_len: int = wire("IPPrefixLen", 0)
    ipv6_gateway: str = wire("IPv6Gateway", "")
    mac_address: str = wire("MacAddress", "")
    networks: Mapping[str, EndpointSettings] = wire("Networks", {})


@dataclass(frozen=True, slots=True)
class ContainerInspect:
    """Answer of GET /containers/{id}/json."""

    id: str = wire("Id", "")
    created: str = wire("Created", "")
    path: str = wire("Path", "")
    args: tuple[str, ...] = wire("Args", ())
    state: ContainerState = wire("State", ContainerState())
    image: str = wire("Image", "")
    resolv_conf_path: str = wire("ResolvConfPath", "")
    hostname_path: str = wire("HostnamePath", "")
    hosts_path: str = wire("HostsPath", "")
    log_path: str = wire("LogPath", "")
    name: str = wire("Name", "")
    restart_count: int = wire("RestartCount", 0)
    driver: str = wire("Driver", "")
    platform: str = wire("Platform", "")
    mount_label: str = wire("MountLabel", "")
    process_label: str = wire("ProcessLabel", "")
    app_armor_profile: str = wire("AppArmorProfile", "")
    exec_ids: tuple[str, ...] | None = wire("ExecIDs", None)
    host_config: HostConfig = wire("HostConfig", HostConfig())
    graph_driver: DriverData = wire("GraphDriver", DriverData())
    size_rw: int | None = wire("SizeRw", None, omit=True)
    size_rootfs: int | None = wire("SizeRootFs", None, omit=True)
    mounts: tuple[MountPoint, ...] = wire("Mounts", ())
    config: ContainerConfig = wire("Config", ContainerConfig())
    network_settings: NetworkSettings = wire("NetworkSettings", NetworkSettings())


@dataclass(frozen=True, slots=True)
class WaitError:
    """Why a wait failed."""

    message: str = wire("Message", "")


@dataclass(frozen=True, slots=True)
class WaitResponse:
    """Answer of POST /containers/{id}/wait."""

    error: WaitError | None = wire("Error", None, omit=True)
    status_code: int = wire("StatusCode", 0)


@dataclass(frozen=True, slots=True)
class TopResponse:
    """Answer of GET /containers/{id}/top."""

    titles: tuple[str, ...] = wire("Titles", ())
    processes: tuple[tuple[str, ...], ...] = wire("Processes", ())


@dataclass(frozen=True, slots=True)
class UpdateResponse:
    """Answer of POST /containers/{id}/update."""

    warnings: tuple[str, ...] | None = wire("Warnings", None)


@dataclass(frozen=True, slots=True)
class PortChange:
    """Body of POST /containers/{id}/ports, which Docker does not have: ports to publish and to close, as in
    HostConfig.PortBindings. One to close is matched by its host address and port only where those are given."""

    add: Mapping[str, tuple[PortBinding, ...] | None] = wire("Add", {})
    remove: Mapping[str, tuple[PortBinding, ...] | None] = wire("Remove", {})


@dataclass(frozen=True, slots=True)
class FilesystemChange:
    """An entry of GET /containers/{id}/changes: 0 modified, 1 added, 2 deleted."""

    path: str = wire("Path", "")
    kind: int = wire("Kind", 0)


@dataclass(frozen=True, slots=True)
class PruneContainersResponse:
    """Answer of POST /containers/prune."""

    containers_deleted: tuple[str, ...] | None = wire("ContainersDeleted", None)
    space_reclaimed: int = wire("SpaceReclaimed", 0)
