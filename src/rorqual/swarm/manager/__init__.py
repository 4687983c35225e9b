"""What users ask of a swarm, as its managers answer."""

from __future__ import annotations

from dataclasses import dataclass

from rorqual.swarm.manager.cluster import ClusterManager
from rorqual.swarm.manager.networks import NetworkManager
from rorqual.swarm.manager.nodes import NodeManager


@dataclass(frozen=True, slots=True)
class Manager:
    """A manager's parts, over one state."""

    cluster: ClusterManager
    nodes: NodeManager
    networks: NetworkManager
