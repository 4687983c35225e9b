"""Legacy links: a container finds another on the default bridge by an alias, and in its environment.

A record keeps a link as `id:alias`, so that it outlives a rename of the other; inspect shows `/name:/parent/alias`.
Source: Engine API 1.56, HostConfig.Links; Docker, "Legacy container links" (names of the variables).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rorqual.api.config import HostConfig
from rorqual.daemon.services.containers.record import Container
from rorqual.daemon.services.containers.registry import Registry
from rorqual.errdefs import Conflict, InvalidArgument, NotFound

_NOT_PASSED = ("HOME", "PATH")


@dataclass(frozen=True, slots=True)
class Link:
    """One link of a container: whom it leads to, and as what."""

    other: Container
    alias: str


def resolve(host: HostConfig, registry: Registry) -> HostConfig:
    """`host` with its links by id. Raises: InvalidArgument for an unknown container or one without a network."""
    found: list[str] = []
    for entry in host.links or ():
        name, _, alias = entry.partition(":")
        try:
            other = registry.get(name)
        except NotFound as e:
            raise InvalidArgument(f"could not get container for {name}: {e}") from e
        if other.host.network_mode == "host":
            raise InvalidArgument(
                "conflicting options: host type networking can't be used with links. This would result in undefined "
                "behavior"
            )
        found.append(f"{other.id}:{alias.rpartition('/')[2] or other.name}")
    return replace(host, links=tuple(found)) if found else host


def of(container: Container, registry: Registry) -> list[Link]:
    """Its links; one whose other end was removed is gone."""
    found: list[Link] = []
    for entry in container.host.links or ():
        name, _, alias = entry.partition(":")
        other = registry.by_id(name)
        if other is not None:
            found.append(Link(other, alias))
    return found


def shown(container: Container, registry: Registry) -> tuple[str, ...] | None:
    """HostConfig.Links of inspect; None without links."""
    texts = tuple(f"/{link.other.name}:/{container.name}/{link.alias}" for link in of(container, registry))
    return texts or None


def given_names(registry: Registry) -> dict[str, list[str]]:
    """The names that links give to containers, by their id: the list shows them beside their own."""
    found: dict[str, list[str]] = {}
    for parent in registry:
        for link in of(parent, registry) if parent.host.links else ():
            found.setdefault(link.other.id, []).append(f"/{parent.name}/{link.alias}")
    return found


def without(name: str, registry: Registry) -> tuple[Container, HostConfig]:
    """The parent of the link `parent/alias` and its host side without that link.

    Raises: Conflict for a name that is no link's, NotFound.
    """
    parent_name, _, alias = name.strip("/").rpartition("/")
    if not parent_name:
        raise Conflict(f"Conflict, cannot remove the default link name of the container: /{alias}")
    parent = registry.get(parent_name)
    kept = tuple(entry for entry in parent.host.links or () if entry.partition(":")[2] != alias)
    if len(kept) == len(parent.host.links or ()):
        raise NotFound(f"No such link: {name}")
    return parent, replace(parent.host, links=kept)


def environment(container: Container, registry: Registry) -> tuple[str, ...]:
    """What the links of a container on the default bridge add to its environment.

    Raises: Conflict when a linked container does not run.
    """
    found: list[str] = []
    for link in of(container, registry):
        other = link.other
        name = f"/{container.name}/{link.alias}"
        bridge = other.networks.get("bridge")
        if not other.state.running:
            raise Conflict(f"Cannot link to a non running container: /{other.name} AS {name}")
        if bridge is None or not bridge.ip_address:
            raise Conflict(f"Cannot link to /{other.name}, as it does not belong to the default network")
        ports = tuple(other.config.exposed_ports or ())
        found += variables(name, bridge.ip_address, ports, other.config.env or ())
    return tuple(found)


def variables(name: str, address: str, ports: Sequence[str], env: Sequence[str]) -> list[str]:
    """The variables of one link: ports as `80/tcp`, neighbours as a range too, then the other's own environment."""
    alias = name.rpartition("/")[2].upper().replace("-", "_")
    ordered = sorted(map(_port, ports), key=lambda p: (p[1] != "tcp", p[1], p[0]))
    found: list[str] = []
    if ordered:
        number, proto = ordered[0]
        found.append(f"{alias}_PORT={proto}://{address}:{number}")
    for start, end, proto in _ranges(ordered):
        for number in range(start, end + 1):
            prefix = f"{alias}_PORT_{number}_{proto.upper()}"
            found += [
                f"{prefix}={proto}://{address}:{number}",
                f"{prefix}_ADDR={address}",
                f"{prefix}_PORT={number}",
                f"{prefix}_PROTO={proto}",
            ]
        if end != start:
            prefix = f"{alias}_PORT_{start}_{proto.upper()}"
            found += [
                f"{prefix}_START={proto}://{address}:{start}",
                f"{prefix}_PORT_START={start}",
                f"{prefix}_END={proto}://{address}:{end}",
                f"{prefix}_PORT_END={end}",
            ]
    found.append(f"{alias}_NAME={name}")
    for entry in env:
        key, equals, value = entry.partition("=")
        if equals and key not in _NOT_PASSED:
            found.append(f"{alias}_ENV_{key}={value}")
    return found


def _port(text: str) -> tuple[int, str]:
    number, _, proto = text.partition("/")
    return int(number.partition("-")[0]), (proto or "tcp").lower()


def _ranges(ordered: Sequence[tuple[int, str]]) -> list[tuple[int, int, str]]:
    """(first, last, protocol) of neighbouring ports."""
    found: list[tuple[int, int, str]] = []
    for number, proto in ordered:
        if found and found[-1][2] == proto and found[-1][1] in (number, number - 1):
            found[-1] = (found[-1][0], number, proto)
        else:
            found.append((number, number, proto))
    return found
