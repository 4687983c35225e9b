"""What is kept of a swarm's objects: their API forms, and what the API does not show."""

# ruff: noqa: RUF009  (wire() declares a field, as dataclasses.field does)

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from rorqual.api import codec
from rorqual.api.codec import wire
from rorqual.api.network import NetworkResource
from rorqual.api.swarm import JoinTokens, ManagerStatus, NodeDescription, NodeSpec, NodeStatus, SwarmSpec
from rorqual.swarm.store.state import Stored

T = TypeVar("T")

CLUSTER, NODE, NETWORK = "cluster", "node", "network"


@dataclass(frozen=True, slots=True)
class Cluster:
    """The swarm itself: there is one. Certificates and keys are PEM; `unlock_key` is "" for one that is not locked."""

    id: str = wire("id")
    created_at: str = wire("created_at")
    updated_at: str = wire("updated_at")
    spec: SwarmSpec = wire("spec")
    root_certificate: str = wire("root_certificate")
    root_key: str = wire("root_key")
    tokens: JoinTokens = wire("tokens")
    unlock_key: str = wire("unlock_key", "")
    address_pools: tuple[str, ...] = wire("address_pools", ())
    subnet_size: int = wire("subnet_size", 0)
    data_path_port: int = wire("data_path_port", 0)


@dataclass(frozen=True, slots=True)
class Member:
    """A node."""

    id: str = wire("id")
    created_at: str = wire("created_at")
    updated_at: str = wire("updated_at")
    spec: NodeSpec = wire("spec")
    description: NodeDescription = wire("description")
    status: NodeStatus = wire("status")
    manager: ManagerStatus | None = wire("manager", None)


@dataclass(frozen=True, slots=True)
class SwarmNetwork:
    """A network of the whole swarm. `resource` is its API form with the subnets it has been given; `vni` its number in
    VXLAN, 0 for one of another driver."""

    resource: NetworkResource = wire("resource")
    vni: int = wire("vni", 0)


def stored(kind: str, id: str, value: object, *, name: str = "", revision: int = 0) -> Stored:
    """As the state keeps it."""
    return Stored(kind, id, codec.to_json(value), name, revision)


def read(cls: type[T], found: Stored) -> T:
    """What the state has kept."""
    return codec.from_json(cls, dict(found.value))
