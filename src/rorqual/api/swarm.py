"""A swarm and its nodes. Source: Engine API 1.56, Swarm and Node. Durations are nanoseconds, as Go's."""

# ruff: noqa: RUF009  (wire() declares a field, as dataclasses.field does)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rorqual.api.codec import wire

SECOND = 1_000_000_000
HEARTBEAT = 5 * SECOND
CERT_EXPIRY = 90 * 24 * 3600 * SECOND


@dataclass(frozen=True, slots=True)
class Version:
    """Which state of an object this is: an update names the one it changes."""

    index: int = wire("Index", 0)


@dataclass(frozen=True, slots=True)
class OrchestrationConfig:
    """How much of what was is kept."""

    task_history_retention_limit: int | None = wire("TaskHistoryRetentionLimit", None, omit=True)


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """Kept and shown for clients; the store is etcd, which has settings of its own."""

    snapshot_interval: int = wire("SnapshotInterval", 0, omit=True)
    keep_old_snapshots: int | None = wire("KeepOldSnapshots", None, omit=True)
    log_entries_for_slow_followers: int = wire("LogEntriesForSlowFollowers", 0, omit=True)
    election_tick: int = wire("ElectionTick", 0)
    heartbeat_tick: int = wire("HeartbeatTick", 0)


@dataclass(frozen=True, slots=True)
class DispatcherConfig:
    """How often a node says that it is there."""

    heartbeat_period: int = wire("HeartbeatPeriod", 0, omit=True)


@dataclass(frozen=True, slots=True)
class CAConfig:
    """The swarm's certificate authority. The signing key is taken and never given back."""

    node_cert_expiry: int = wire("NodeCertExpiry", 0, omit=True)
    external_c_as: tuple[Any, ...] | None = wire("ExternalCAs", None, omit=True)
    signing_ca_cert: str = wire("SigningCACert", "", omit=True)
    signing_ca_key: str = wire("SigningCAKey", "", omit=True)
    force_rotate: int = wire("ForceRotate", 0, omit=True)


@dataclass(frozen=True, slots=True)
class TaskDefaults:
    """What a task has that says nothing else."""

    log_driver: Any = wire("LogDriver", None, omit=True)


@dataclass(frozen=True, slots=True)
class EncryptionConfig:
    """Whether a manager that starts waits for the key."""

    auto_lock_managers: bool = wire("AutoLockManagers", False)


@dataclass(frozen=True, slots=True)
class SwarmSpec:
    """What a user may change of a swarm."""

    name: str = wire("Name", "")
    labels: Mapping[str, str] | None = wire("Labels", None)
    orchestration: OrchestrationConfig = wire("Orchestration", OrchestrationConfig())
    raft: RaftConfig = wire("Raft", RaftConfig())
    dispatcher: DispatcherConfig = wire("Dispatcher", DispatcherConfig())
    ca_config: CAConfig = wire("CAConfig", CAConfig())
    task_defaults: TaskDefaults = wire("TaskDefaults", TaskDefaults())
    encryption_config: EncryptionConfig = wire("EncryptionConfig", EncryptionConfig())


@dataclass(frozen=True, slots=True)
class TLSInfo:
    """Whom a node trusts; subject and key of the issuer are base64 of their DER."""

    trust_root: str = wire("TrustRoot", "", omit=True)
    cert_issuer_subject: str = wire("CertIssuerSubject", "", omit=True)
    cert_issuer_public_key: str = wire("CertIssuerPublicKey", "", omit=True)


@dataclass(frozen=True, slots=True)
class JoinTokens:
    """What a node shows that wants in."""

    worker: str = wire("Worker", "")
    manager: str = wire("Manager", "")


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """The swarm, without its tokens: a part of GET /info."""

    id: str = wire("ID", "")
    version: Version = wire("Version", Version())
    created_at: str = wire("CreatedAt", "")
    updated_at: str = wire("UpdatedAt", "")
    spec: SwarmSpec = wire("Spec", SwarmSpec())
    tls_info: TLSInfo = wire("TLSInfo", TLSInfo())
    root_rotation_in_progress: bool = wire("RootRotationInProgress", False)
    default_addr_pool: tuple[str, ...] = wire("DefaultAddrPool", ())
    subnet_size: int = wire("SubnetSize", 0)
    data_path_port: int = wire("DataPathPort", 0)


@dataclass(frozen=True, slots=True)
class Swarm(ClusterInfo):
    """Answer of GET /swarm."""

    join_tokens: JoinTokens = wire("JoinTokens", JoinTokens())


@dataclass(frozen=True, slots=True)
class InitRequest:
    """Body of POST /swarm/init."""

    listen_addr: str = wire("ListenAddr", "")
    advertise_addr: str = wire("AdvertiseAddr", "")
    data_path_addr: str = wire("DataPathAddr", "")
    data_path_port: int = wire("DataPathPort", 0)
    force_new_cluster: bool = wire("ForceNewCluster", False)
    spec: SwarmSpec = wire("Spec", SwarmSpec())
    availability: str = wire("Availability", "")
    default_addr_pool: tuple[str, ...] | None = wire("DefaultAddrPool", None)
    subnet_size: int = wire("SubnetSize", 0)


@dataclass(frozen=True, slots=True)
class UnlockKey:
    """Answer of GET /swarm/unlockkey, body of POST /swarm/unlock."""

    unlock_key: str = wire("UnlockKey", "")


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What a user may change of a node."""

    name: str = wire("Name", "", omit=True)
    labels: Mapping[str, str] | None = wire("Labels", None)
    role: str = wire("Role", "", omit=True)
    availability: str = wire("Availability", "", omit=True)


@dataclass(frozen=True, slots=True)
class Platform:
    """What its programs are for."""

    architecture: str = wire("Architecture", "", omit=True)
    os: str = wire("OS", "", omit=True)


@dataclass(frozen=True, slots=True)
class Resources:
    """What it has: 1e-9 of a processor, bytes."""

    nano_cpus: int = wire("NanoCPUs", 0, omit=True)
    memory_bytes: int = wire("MemoryBytes", 0, omit=True)


@dataclass(frozen=True, slots=True)
class PluginDescription:
    """A driver that is there."""

    type: str = wire("Type", "", omit=True)
    name: str = wire("Name", "", omit=True)


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """Its daemon."""

    engine_version: str = wire("EngineVersion", "", omit=True)
    labels: Mapping[str, str] | None = wire("Labels", None, omit=True)
    plugins: tuple[PluginDescription, ...] = wire("Plugins", (), omit=True)


@dataclass(frozen=True, slots=True)
class NodeDescription:
    """What a node says of itself."""

    hostname: str = wire("Hostname", "", omit=True)
    platform: Platform = wire("Platform", Platform())
    resources: Resources = wire("Resources", Resources())
    engine: EngineDescription = wire("Engine", EngineDescription())
    tls_info: TLSInfo = wire("TLSInfo", TLSInfo())


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """Whether it is there."""

    state: str = wire("State", "", omit=True)
    message: str = wire("Message", "", omit=True)
    addr: str = wire("Addr", "", omit=True)


@dataclass(frozen=True, slots=True)
class ManagerStatus:
    """A manager's part in the store."""

    leader: bool = wire("Leader", False, omit=True)
    reachability: str = wire("Reachability", "", omit=True)
    addr: str = wire("Addr", "", omit=True)


@dataclass(frozen=True, slots=True)
class Node:
    """A node, as list and inspect give it."""

    id: str = wire("ID", "")
    version: Version = wire("Version", Version())
    created_at: str = wire("CreatedAt", "")
    updated_at: str = wire("UpdatedAt", "")
    spec: NodeSpec = wire("Spec", NodeSpec())
    description: NodeDescription = wire("Description", NodeDescription())
    status: NodeStatus = wire("Status", NodeStatus())
    manager_status: ManagerStatus | None = wire("ManagerStatus", None, omit=True)
