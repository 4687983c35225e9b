"""The swarm itself: its settings, its authority, its tokens, its lock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Network

from rorqual.api.swarm import (
    CERT_EXPIRY,
    HEARTBEAT,
    CAConfig,
    ClusterInfo,
    DispatcherConfig,
    InitRequest,
    JoinTokens,
    OrchestrationConfig,
    RaftConfig,
    Swarm,
    SwarmSpec,
    TLSInfo,
    Version,
)
from rorqual.errdefs import DataLoss, InvalidArgument, NotImplementedHere
from rorqual.swarm import objects
from rorqual.swarm.ca import RootCA, join_token, renewed_token
from rorqual.swarm.identity import new_id
from rorqual.swarm.keys import new_unlock_key
from rorqual.swarm.objects import Cluster
from rorqual.swarm.store.state import OUT_OF_SEQUENCE, State, Stored

NAME = "default"
POOLS = ("10.0.0.0/8",)
SUBNET_SIZE = 24
DATA_PATH_PORT = 4789
_CERT_EXPIRY_MIN = 3600 * 1_000_000_000
_PORT_MIN, _PORT_MAX = 1024, 49151
_RAFT = RaftConfig(10000, 0, 500, 10, 1)
_HISTORY = 5


def new_cluster(wanted: InitRequest, now: str) -> Cluster:
    """The cluster that `swarm init` asks for. Raises: InvalidArgument."""
    spec = merged(
        SwarmSpec(
            NAME,
            {},
            OrchestrationConfig(_HISTORY),
            _RAFT,
            DispatcherConfig(HEARTBEAT),
            CAConfig(CERT_EXPIRY),
        ),
        wanted.spec,
    )
    root = _given_root(wanted.spec.ca_config) or RootCA.create()
    return Cluster(
        id=new_id(),
        created_at=now,
        updated_at=now,
        spec=spec,
        root_certificate=root.certificate,
        root_key=root.key,
        tokens=JoinTokens(join_token(root.certificate), join_token(root.certificate)),
        unlock_key=new_unlock_key() if spec.encryption_config.auto_lock_managers else "",
        address_pools=_pools(wanted.default_addr_pool or (), wanted.subnet_size),
        subnet_size=wanted.subnet_size or SUBNET_SIZE,
        data_path_port=_data_path_port(wanted.data_path_port),
    )


def merged(spec: SwarmSpec, wanted: SwarmSpec) -> SwarmSpec:
    """`spec` as `wanted` changes it: what that leaves empty stays, but for the lock. Raises: InvalidArgument."""
    ca = wanted.ca_config
    if ca.external_c_as:
        raise NotImplementedHere("external certificate authorities are not supported")
    expiry = ca.node_cert_expiry or spec.ca_config.node_cert_expiry
    if expiry < _CERT_EXPIRY_MIN:
        raise InvalidArgument("minimum certificate expiry time is 1h0m0s")
    if wanted.name not in ("", NAME):
        raise InvalidArgument("modification of cluster name is not allowed")
    period = wanted.dispatcher.heartbeat_period or spec.dispatcher.heartbeat_period
    if period < 0:
        raise InvalidArgument("heartbeat time period cannot be a negative duration")
    raft, new = spec.raft, wanted.raft
    limit = wanted.orchestration.task_history_retention_limit
    return replace(
        spec,
        labels=dict(wanted.labels) if wanted.labels is not None else spec.labels,
        orchestration=spec.orchestration if limit is None else OrchestrationConfig(limit),
        raft=RaftConfig(
            new.snapshot_interval or raft.snapshot_interval,
            raft.keep_old_snapshots if new.keep_old_snapshots is None else new.keep_old_snapshots,
            new.log_entries_for_slow_followers or raft.log_entries_for_slow_followers,
            new.election_tick or raft.election_tick,
            new.heartbeat_tick or raft.heartbeat_tick,
        ),
        dispatcher=DispatcherConfig(period),
        ca_config=CAConfig(expiry, force_rotate=ca.force_rotate or spec.ca_config.force_rotate),
        task_defaults=wanted.task_defaults if wanted.task_defaults.log_driver is not None else spec.task_defaults,
        encryption_config=wanted.encryption_config,
    )


class ClusterManager:
    """`changed` is told the cluster after each change, before the change is answered."""

    def __init__(self, state: State, now: Callable[[], str], changed: Callable[[Cluster], Awaitable[None]]) -> None:
        self._state, self._now, self._changed = state, now, changed

    def _stored(self) -> Stored:
        found = self._state.all(objects.CLUSTER)
        if not found:
            raise DataLoss("etcd has nothing of this node's swarm")
        return found[0]

    def get(self) -> Cluster:
        """The swarm's record."""
        return objects.read(Cluster, self._stored())

    def info(self) -> ClusterInfo:
        """As GET /info shows it."""
        stored = self._stored()
        cluster = objects.read(Cluster, stored)
        return ClusterInfo(
            cluster.id,
            Version(stored.revision),
            cluster.created_at,
            cluster.updated_at,
            cluster.spec,
            tls_info(cluster),
            False,
            cluster.address_pools,
            cluster.subnet_size,
            cluster.data_path_port,
        )

    def swarm(self) -> Swarm:
        """As GET /swarm shows it."""
        i = self.info()
        return Swarm(
            i.id, i.version, i.created_at, i.updated_at, i.spec, i.tls_info, i.root_rotation_in_progress,
            i.default_addr_pool, i.subnet_size, i.data_path_port, self.get().tokens,
        )  # fmt: skip

    async def update(
        self, version: int, wanted: SwarmSpec, *, worker: bool = False, manager: bool = False, unlock_key: bool = False
    ) -> None:
        """Change the settings; make new tokens and a new unlock key where asked to. Raises: InvalidArgument."""
        stored = self._stored()
        if stored.revision != version:
            raise InvalidArgument(OUT_OF_SEQUENCE)
        had = objects.read(Cluster, stored)
        spec = merged(had.spec, wanted)
        root = _given_root(wanted.ca_config)
        if root is None and spec.ca_config.force_rotate != had.spec.ca_config.force_rotate:
            root = RootCA.create()
        certificate = root.certificate if root else had.root_certificate
        tokens = had.tokens
        if root:
            tokens = JoinTokens(renewed_token(tokens.worker, certificate), renewed_token(tokens.manager, certificate))
        lock = had.unlock_key
        if not spec.encryption_config.auto_lock_managers:
            lock = ""
        elif unlock_key or not lock:
            lock = new_unlock_key()
        cluster = replace(
            had,
            updated_at=self._now(),
            spec=spec,
            root_certificate=certificate,
            root_key=root.key if root else had.root_key,
            tokens=JoinTokens(
                join_token(certificate) if worker else tokens.worker,
                join_token(certificate) if manager else tokens.manager,
            ),
            unlock_key=lock,
        )
        await self._state.commit(put=[objects.stored(objects.CLUSTER, had.id, cluster, revision=stored.revision)])
        await self._changed(cluster)


def tls_info(cluster: Cluster) -> TLSInfo:
    """Whom the swarm's nodes trust."""
    return TLSInfo(cluster.root_certificate, *RootCA(cluster.root_certificate, cluster.root_key).issuer)


def _given_root(config: CAConfig) -> RootCA | None:
    if not config.signing_ca_cert and not config.signing_ca_key:
        return None
    if not config.signing_ca_cert:
        raise InvalidArgument("a signing CA key needs its certificate")
    if not config.signing_ca_key:
        raise InvalidArgument("a signing CA certificate needs its key: external authorities are not supported")
    return RootCA.given(config.signing_ca_cert, config.signing_ca_key)


def _pools(texts: Sequence[str], size: int) -> tuple[str, ...]:
    """Raises: InvalidArgument."""
    pools: list[IPv4Network] = []
    for text in texts or POOLS:
        try:
            pool = IPv4Network(text)
        except ValueError:
            raise InvalidArgument(f"invalid CIDR address: {text}") from None
        if any(pool.overlaps(other) for other in pools):
            raise InvalidArgument(f"default address pools overlap: {text}")
        if not pool.prefixlen <= (size or SUBNET_SIZE) <= 29:
            raise InvalidArgument(f"invalid DefaultAddrPool mask length: {size or SUBNET_SIZE} for {text}")
        pools.append(pool)
    return tuple(map(str, pools))


def _data_path_port(port: int) -> int:
    if port and not _PORT_MIN <= port <= _PORT_MAX:
        raise InvalidArgument(f"invalid data path port number {port}: must be from {_PORT_MIN} to {_PORT_MAX}")
    return port or DATA_PATH_PORT
