"""This engine's part in a swarm: makes one, leaves it, finds it again when the daemon starts.

<root>/node.json                      who this node is; there while it is in a swarm
<root>/keys.json                      see keys: sealed while the swarm is locked
<root>/certificates/swarm-root-ca.crt, swarm-node.crt
<root>/etcd/                          the state's process: its data, its sockets, its log

node.json is the last that `init` writes and the first that `leave` removes: whatever a kill leaves without it is
removed at the next start.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rorqual.api import codec
from rorqual.api.codec import wire
from rorqual.api.network import NetworkCreateRequest
from rorqual.api.swarm import InitRequest, ManagerStatus, NodeDescription, NodeSpec, NodeStatus, SwarmSpec
from rorqual.errdefs import Conflict, Error, InvalidArgument, Unavailable
from rorqual.linux.sync import write_durably
from rorqual.swarm import objects
from rorqual.swarm.ca import RootCA, expires_at
from rorqual.swarm.identity import new_id
from rorqual.swarm.keys import KeyFile, Keys, Sealer, new_state_key
from rorqual.swarm.manager import Manager
from rorqual.swarm.manager.cluster import ClusterManager, merged, new_cluster, tls_info
from rorqual.swarm.manager.networks import INGRESS, NetworkManager
from rorqual.swarm.manager.nodes import AVAILABILITIES, NodeManager
from rorqual.swarm.objects import Cluster, Member
from rorqual.swarm.store.client import Etcd
from rorqual.swarm.store.process import EtcdProcess
from rorqual.swarm.store.state import State

log = logging.getLogger(__name__)

ALREADY = 'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.'
LOCKED = (
    'Swarm is encrypted and needs to be unlocked before it can be used. Please use "docker swarm unlock" to unlock it.'
)
_LAST_MANAGER = (
    "You are attempting to leave the swarm on a node that is participating as a manager. Removing the last manager "
    "erases all current state of the swarm. Use `--force` to ignore this message. "
)
_RENEWAL_S = 3600.0


@dataclass(frozen=True, slots=True)
class Place:
    """What node.json says. Addresses are host:port, but for the data path's, which is a host."""

    node_id: str = wire("node_id")
    listen: str = wire("listen")
    advertise: str = wire("advertise")
    data_path: str = wire("data_path", "")


class SwarmNode:
    """One engine's. `describe` tells what this node is, `now` the time as the API writes it."""

    def __init__(
        self,
        root: Path,
        describe: Callable[[], NodeDescription],
        now: Callable[[], str],
        *,
        etcd: str = "etcd",
    ) -> None:
        self._root, self._describe, self._now = root, describe, now
        self._lock = asyncio.Lock()
        self._keys = KeyFile(root / "keys.json")
        self._held: Keys | None = None
        self._server = EtcdProcess(root / "etcd", binary=etcd)
        self._state: State | None = None
        self._renewal: asyncio.Task[None] | None = None
        self.place: Place | None = None
        self.manager: Manager | None = None
        self.locked = False
        self.error = ""

    # --- the daemon's life

    async def start(self) -> None:
        """Take up the place this node had. What hinders that is kept in `error`: the engine works without."""
        if not (self._root / "node.json").exists():
            await self._sweep()
            return
        try:
            self.place = codec.from_bytes(Place, (self._root / "node.json").read_bytes())
            self.locked = self._keys.locked
            if not self.locked:
                await self._open(self._keys.load())
        except (Error, OSError) as e:
            self.place = self.place or Place("", "", "")  # it is in a swarm: only `leave` may remove that
            self.error = str(e)
            log.error("this node's swarm is not available: %s", e)

    async def stop(self) -> None:
        """The daemon ends in good order: so does etcd."""
        await self._close()
        await self._server.stop()

    async def _sweep(self) -> None:
        """Remove what an `init` or a `leave` that was cut short has left."""
        if not self._root.exists():
            return
        await self._server.stop()
        await asyncio.to_thread(shutil.rmtree, self._root)

    # --- what users ask for

    async def init(self, wanted: InitRequest, listen: str, advertise: str, data_path: str) -> str:
        """Make a swarm whose only node is this one; its id. Addresses are complete already.

        Raises: InvalidArgument, Unavailable (in one already; no etcd).
        """
        async with self._lock:
            if self.place is not None and not wanted.force_new_cluster:
                raise Unavailable(ALREADY)
            availability = wanted.availability.lower() or "active"
            if availability not in AVAILABILITIES:
                raise InvalidArgument(f'invalid Availability: "{wanted.availability}"')
            place = Place(self.place.node_id if self.place else new_id(), listen, advertise, data_path)
            if self.place is not None:
                await self._made_alone(place, wanted.spec)
                return place.node_id
            cluster = new_cluster(wanted, self._now())
            try:
                await self._make(place, cluster, availability)
            except BaseException:
                await self._close()
                await self._sweep()
                raise
            self.place = place
        return place.node_id

    async def _make(self, place: Place, cluster: Cluster, availability: str) -> None:
        await self._sweep()
        os.mkdir(self._root, 0o700)
        os.mkdir(self._root / "certificates", 0o700)
        root = RootCA(cluster.root_certificate, cluster.root_key)
        certificate, key = root.issue(place.node_id, cluster.id, "manager", cluster.spec.ca_config.node_cert_expiry)
        keys = Keys(new_state_key(), key)
        self._write_certificates(cluster.root_certificate, certificate)
        self._keys.save(keys, cluster.unlock_key)
        self._held = keys
        manager, state = await self._opened(place, keys)
        now = self._now()
        member = replace(
            self._member(place, cluster),
            created_at=now,
            updated_at=now,
            spec=NodeSpec(labels={}, role="manager", availability=availability),
        )
        await state.commit(
            put=[
                objects.stored(objects.CLUSTER, cluster.id, cluster),
                objects.stored(objects.NODE, member.id, member),
            ]
        )
        await manager.networks.create(NetworkCreateRequest(name=INGRESS, driver="overlay", ingress=True))
        write_durably(str(self._root / "node.json"), json.dumps(codec.to_json(place)), 0o600)
        self._take(manager, state)

    async def _made_alone(self, place: Place, spec: SwarmSpec) -> None:
        """`--force-new-cluster`: this node is the swarm's only one from now on, at these addresses."""
        manager = self.managing()
        merged(manager.cluster.get().spec, spec)
        write_durably(str(self._root / "node.json"), json.dumps(codec.to_json(place)), 0o600)
        self.place = place
        await manager.nodes.describe(self._member(place, manager.cluster.get()))
        assert self._state is not None
        others = [n for n in self._state.all(objects.NODE) if n.id != place.node_id]
        if others:
            await self._state.commit(delete=others)

    async def unlock(self, key: str) -> None:
        """Raises: Conflict when it is not locked, InvalidArgument, PermissionDenied for another key."""
        async with self._lock:
            if self.place is None:
                raise Unavailable("This node is not part of a swarm")
            if not self.locked:
                raise Conflict("swarm is not locked")
            keys = self._keys.load(key)
            self.error = ""
            await self._open(keys)
            self.locked = False

    async def leave(self, *, force: bool) -> None:
        """Raises: Unavailable when it is in none, or (without `force`) for a manager."""
        async with self._lock:
            if self.place is None:
                raise Unavailable("This node is not part of a swarm")
            if not force:
                raise Unavailable(LOCKED if self.locked else _LAST_MANAGER)
            (self._root / "node.json").unlink(missing_ok=True)
            await self._close()
            self.place, self.locked, self.error = None, False, ""
            await self._sweep()

    def managing(self) -> Manager:
        if self.manager is None:
            raise Unavailable(LOCKED if self.locked else self.error or "This node is not part of a swarm")
        return self.manager

    # --- the state

    async def _open(self, keys: Keys) -> None:
        assert self.place is not None
        self._held = keys
        manager, state = await self._opened(self.place, keys)
        try:
            await self._heed(manager, manager.cluster.get())
        except BaseException:
            await state.close()
            raise
        self._take(manager, state)

    async def _opened(self, place: Place, keys: Keys) -> tuple[Manager, State]:
        self._server.name = place.node_id
        state = State(self._server, Etcd(self._server.address), Sealer(keys.state))
        try:
            await state.open()
        except BaseException:
            await state.close()
            raise
        cluster = ClusterManager(state, self._now, lambda changed: self._heed(manager, changed))
        manager = Manager(cluster, NodeManager(state, self._now), NetworkManager(state, cluster, self._now))
        return manager, state

    async def _heed(self, manager: Manager, cluster: Cluster) -> None:
        """Make this node what the cluster's record says: its files, and what it says of itself."""
        assert self.place is not None
        await asyncio.to_thread(self._keep_keys, cluster)
        await manager.nodes.describe(self._member(self.place, cluster))

    def _take(self, manager: Manager, state: State) -> None:
        self.manager, self._state = manager, state
        self._renewal = asyncio.create_task(self._renew(manager), name="the node's certificate")

    async def _close(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
            self._renewal = None
        self.manager, state, self._state, self._held = None, self._state, None, None
        if state is not None:
            await state.close()

    def _member(self, place: Place, cluster: Cluster) -> Member:
        host = place.advertise.rpartition(":")[0].strip("[]")
        return Member(
            place.node_id,
            "",
            "",
            NodeSpec(),
            replace(self._describe(), tls_info=tls_info(cluster)),
            NodeStatus("ready", addr=host),
            ManagerStatus(True, "reachable", place.advertise),
        )

    # --- keys and certificates

    async def _renew(self, manager: Manager) -> None:
        while True:
            await asyncio.sleep(_RENEWAL_S)
            try:
                await self._heed(manager, manager.cluster.get())
            except (Error, OSError) as e:
                log.error("the node's certificate cannot be looked at: %s", e)

    def _keep_keys(self, cluster: Cluster) -> None:
        """Make this node's files what the cluster's record says: sealed or not, with which key; the certificate of its
        root, and not too old. A kill between the record and the files is made good here at the next start."""
        assert self.place is not None and self._held is not None
        certificate = (self._root / "certificates/swarm-node.crt").read_text()
        root = RootCA(cluster.root_certificate, cluster.root_key)
        lasts = timedelta(microseconds=cluster.spec.ca_config.node_cert_expiry / 1000)
        if not root.signed(certificate) or expires_at(certificate) - datetime.now(UTC) < lasts / 2:
            certificate, key = root.issue(
                self.place.node_id, cluster.id, "manager", cluster.spec.ca_config.node_cert_expiry
            )
            self._held = replace(self._held, node=key)
            self._write_certificates(cluster.root_certificate, certificate)
        self._keys.save(self._held, cluster.unlock_key)

    def _write_certificates(self, root: str, node: str) -> None:
        directory = self._root / "certificates"
        write_durably(str(directory / "swarm-root-ca.crt"), root, 0o644)
        write_durably(str(directory / "swarm-node.crt"), node, 0o644)
