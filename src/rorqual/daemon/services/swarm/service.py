"""The engine's place in a swarm: outside of one, nothing of rorqual.swarm is imported."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Awaitable, Callable
from pathlib import Path

from rorqual.api.swarm import (
    EngineDescription,
    InitRequest,
    Node,
    NodeDescription,
    NodeSpec,
    Platform,
    PluginDescription,
    Resources,
)
from rorqual.api.system import SwarmInfo
from rorqual.daemon.config import DaemonConfig
from rorqual.daemon.services import clock, logconfig
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.filters import Filters
from rorqual.daemon.services.swarm import addresses
from rorqual.errdefs import InvalidArgument, Unavailable
from rorqual.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.swarm.manager import Manager
    from rorqual.swarm.node import SwarmNode

NODE_FILTERS = frozenset({"id", "label", "membership", "name", "node.label", "role"})
NO_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)
NO_SWARM = "This node is not part of a swarm"


class Swarm:
    """`bridges` tells the interfaces that are our own networks': none of them is the host's address."""

    def __init__(self, config: DaemonConfig, events: Events, bridges: Callable[[], Awaitable[set[str]]]) -> None:
        self._config, self._events, self._bridges = config, events, bridges
        self._root = Path(config.data_root) / "swarm"
        self._node: SwarmNode | None = None

    # --- the daemon's life

    async def start(self) -> None:
        """Take up the place in the swarm that this engine had."""
        if self._root.exists():
            await self._made().start()

    async def stop(self) -> None:
        """The daemon ends."""
        if self._node is not None:
            await self._node.stop()

    def _made(self) -> SwarmNode:
        if self._node is None:
            from rorqual.swarm.node import SwarmNode

            self._node = SwarmNode(self._root, self._describe, lambda: clock.rfc3339(clock.now_ns()))
        return self._node

    def _describe(self) -> NodeDescription:
        config = self._config
        labels = dict(label.partition("=")[::2] for label in config.labels)
        networks = ("bridge", "host", "ipvlan", "macvlan", "null", "overlay")
        plugins = [("Log", name) for name in logconfig.DRIVERS] + [("Network", name) for name in networks]
        return NodeDescription(
            platform.node(),
            Platform(platform.machine(), "linux"),
            Resources((os.cpu_count() or 1) * 1_000_000_000, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
            EngineDescription(
                __version__,
                labels or None,
                tuple(PluginDescription(kind, name) for kind, name in (*plugins, ("Volume", "local"))),
            ),
        )

    # --- asked for by the API

    @property
    def active(self) -> bool:
        """Whether this engine is a manager whose state is at hand."""
        return self._node is not None and self._node.manager is not None

    @property
    def joined(self) -> bool:
        """Whether this engine is in a swarm, be its state at hand or not (locked, in error)."""
        return self._node is not None and self._node.place is not None

    @property
    def manager(self) -> Manager:
        """Raises: Unavailable in the words that tell why there is none."""
        node = self._node
        if node is None or node.place is None:
            raise Unavailable(NO_MANAGER)
        return node.managing()

    def info(self) -> SwarmInfo:
        """For GET /info."""
        node = self._node
        if node is None or node.place is None:
            return SwarmInfo(local_node_state="inactive")
        if node.manager is None:
            return SwarmInfo(local_node_state="locked" if node.locked else "error", error=node.error)
        nodes = node.manager.nodes.all()
        managers = [n for n in nodes if n.manager_status is not None]
        return SwarmInfo(
            node_id=node.place.node_id,
            node_addr=node.place.advertise.rpartition(":")[0].strip("[]"),
            local_node_state="active",
            control_available=True,
            remote_managers=[{"NodeID": n.id, "Addr": n.manager_status.addr} for n in managers if n.manager_status],
            nodes=len(nodes),
            managers=len(managers),
            cluster=node.manager.cluster.info(),
        )

    async def init(self, wanted: InitRequest) -> str:
        """Make a swarm of this node; its id. Raises: InvalidArgument, Unavailable."""
        if not wanted.force_new_cluster and self._node is not None and self._node.place is not None:
            await self._node.init(wanted, "", "", "")  # says what it is part of
        interfaces = await asyncio.to_thread(addresses.host_addresses, await self._bridges())
        listening = addresses.listen(wanted.listen_addr, interfaces)
        advertised = addresses.advertise(
            wanted.advertise_addr or self._config.swarm_default_advertise_addr, listening, interfaces
        )
        data_path = addresses.data_path(wanted.data_path_addr, interfaces)
        node_id = await self._made().init(wanted, listening, advertised, data_path)
        self._tell("create", node_id, {"name": platform.node()})
        return node_id

    async def leave(self, *, force: bool) -> None:
        """Raises: Unavailable."""
        if self._node is None:
            raise Unavailable(NO_SWARM)
        await self._node.leave(force=force)

    async def unlock(self, key: str) -> None:
        """Raises: Conflict, InvalidArgument, PermissionDenied, Unavailable."""
        if self._node is None:
            raise Unavailable(NO_SWARM)
        await self._node.unlock(key)

    def nodes(self, filters: Filters) -> list[Node]:
        """Those that pass the filters. Raises: InvalidArgument, Unavailable."""
        for key, allowed in (("role", ("worker", "manager")), ("membership", ("accepted", "pending"))):
            for value in filters.get(key):
                if value not in allowed:
                    raise InvalidArgument(f"invalid {key} filter: '{value}'")
        return [
            node
            for node in self.manager.nodes.all()
            if filters.prefix("id", node.id)
            and filters.prefix("name", node.description.hostname)
            and filters.one_of("role", node.spec.role)
            and filters.one_of("membership", "accepted")
            and filters.labels("node.label", node.spec.labels or {})
            and filters.labels("label", node.description.engine.labels or {})
        ]

    async def update_node(self, reference: str, version: int, wanted: NodeSpec) -> None:
        """Raises: NotFound, InvalidArgument, Unavailable."""
        manager = self.manager
        node = manager.nodes.get(reference)
        await manager.nodes.update(reference, version, wanted)
        attributes = {"name": node.description.hostname}
        for key, old, new in (
            ("availability", node.spec.availability, wanted.availability),
            ("role", node.spec.role, wanted.role),
        ):
            if old != new:
                attributes |= {f"{key}.old": old, f"{key}.new": new}
        self._tell("update", node.id, attributes)

    def _tell(self, action: str, id: str, attributes: dict[str, str]) -> None:
        self._events.publish("node", action, id, attributes, "swarm")
