"""Exposed and published ports: Docker's texts to libnetwork's values and back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, cast

from rorqual.api.config import ContainerConfig, HostConfig
from rorqual.api.config import PortBinding as APIBinding
from rorqual.errdefs import InvalidArgument
from rorqual.libnetwork.model import Endpoint, PortBinding

Proto = Literal["tcp", "udp", "sctp"]
Port = tuple[int, Proto]

_SPEC = re.compile(r"^(\d+)(?:-(\d+))?(?:/(\w+))?\Z")


def parse_port(text: str) -> list[Port]:
    """`80`, `80/tcp`, `8000-8010/udp`. Raises: InvalidArgument."""
    match = _SPEC.match(text)
    if match is None:
        raise InvalidArgument(f"invalid port specification: {text!r}")
    first, last = int(match[1]), int(match[2] or match[1])
    proto = (match[3] or "tcp").lower()
    if proto not in ("tcp", "udp", "sctp"):
        raise InvalidArgument(f"invalid proto: {match[3]}")
    if not 1 <= first <= last <= 65535:
        raise InvalidArgument(f"invalid port specification: {text!r}")
    return [(port, cast(Proto, proto)) for port in range(first, last + 1)]


def exposed(config: ContainerConfig, host: HostConfig) -> list[Port]:
    """Every port that is exposed or published, in order. Raises: InvalidArgument."""
    found: dict[Port, None] = {}
    for text in (*(config.exposed_ports or {}), *(host.port_bindings or {})):
        found.update(dict.fromkeys(parse_port(text)))
    return sorted(found)


def bindings(config: ContainerConfig, host: HostConfig) -> list[PortBinding]:
    """What is to be published. Raises: InvalidArgument."""
    wishes = from_api(host.port_bindings or {})
    bound = {(wish.container_port, wish.proto) for wish in wishes}
    if host.publish_all_ports:
        for port, proto in exposed(config, host):
            if (port, proto) not in bound:
                wishes.append(PortBinding(port, proto))
    return wishes


def from_api(given: Mapping[str, Sequence[APIBinding] | None]) -> list[PortBinding]:
    """A PortMap as libnetwork's wishes. Raises: InvalidArgument."""
    return [
        PortBinding(port, proto, binding.host_ip, *_host_ports(binding.host_port))
        for text, bindings_ in given.items()
        for port, proto in parse_port(text)
        for binding in bindings_ or (APIBinding(),)
    ]


PortMap = Mapping[str, Sequence[APIBinding] | None]


def changed(have: PortMap, add: PortMap, remove: PortMap) -> dict[str, tuple[APIBinding, ...] | None]:
    """The bindings `have` without those that `remove` matches and with those of `add`. A host port that was left to
    chance is not in `have`: a wish to close a port that nothing there names means one of those.

    Raises: InvalidArgument.
    """
    found = {
        f"{port}/{proto}": list(given or (APIBinding(),))
        for text, given in have.items()
        for port, proto in parse_port(text)
    }
    for wish in from_api(remove):
        key = f"{wish.container_port}/{wish.proto}"
        on_address = [b for b in found.get(key, ()) if not wish.host_ip or not b.host_ip or b.host_ip == wish.host_ip]
        named = [b for b in on_address if not wish.host_port or _host_ports(b.host_port)[0] == wish.host_port]
        closing = named or [b for b in on_address if not b.host_port][:1]
        found[key] = [b for b in found.get(key, ()) if b not in closing]
    for text, given in add.items():
        for port, proto in parse_port(text):
            found.setdefault(f"{port}/{proto}", []).extend(given or (APIBinding(),))
    return {key: tuple(given) for key, given in found.items() if given}


def _host_ports(text: str) -> tuple[int, int]:
    if not text:
        return 0, 0
    first, _, last = text.partition("-")
    try:
        start, end = int(first), int(last or 0)
    except ValueError:
        raise InvalidArgument(f"invalid port specification: {text!r}") from None
    if not 0 <= start <= 65535 or not 0 <= end <= 65535 or (end and end < start):
        raise InvalidArgument(f"invalid port specification: {text!r}")
    return start, end


def port_map(
    config: ContainerConfig, host: HostConfig, endpoints: Mapping[str, Endpoint]
) -> dict[str, tuple[APIBinding, ...] | None]:
    """NetworkSettings.Ports of a running container."""
    ports: dict[str, tuple[APIBinding, ...] | None] = {f"{p}/{proto}": None for p, proto in exposed(config, host)}
    for endpoint in endpoints.values():
        for published in endpoint.ports:
            key = f"{published.container_port}/{published.proto}"
            new = APIBinding(published.host_ip or "0.0.0.0", str(published.host_port))
            ports[key] = (*(ports.get(key) or ()), new)
        for port, proto in endpoint.routed_ports:
            ports.setdefault(f"{port}/{proto}", None)
    return ports
