"""What networks and published ports put into the table's sets and maps: as text, for the transaction that writes the
whole table, and as the kernel compares it, for all that changes while the engine runs. Pure.

Single changes do not go by libnftables, which reads every interval set of the table before it adds one element to any:
the five-hundredth network, and a port published beside it, would cost several times the first.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from rorqual.libnetwork.model import ANY, ANY6, GatewayMode, Proto
from rorqual.linux.nfelements import Element

_PROTOS: dict[Proto, int] = {"tcp": 6, "udp": 17, "sctp": 132}


@dataclass(frozen=True, slots=True)
class BridgeRules:
    """What the table has to know of one bridge network. `rooted`: the host has an address on it, and so a route."""

    interface: str
    subnet: IPv4Network | None
    icc: bool = True
    ip_masq: bool = True
    internal: bool = False
    subnet6: IPv6Network | None = None
    mode: GatewayMode = "nat"
    mode6: GatewayMode = "nat"
    rooted: bool = True
    rooted6: bool = True


@dataclass(frozen=True, slots=True)
class Source:
    """Packets from `ip` may come in by that bridge: it is the address of somebody who is on it, there or (though the
    host reaches that by another bridge) on another of his networks."""

    interface: str
    ip: IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Publication:
    """Packets to `host_ip`:`host_port` (0.0.0.0 or ::: any address of this host) go to `ip`:`port`. With `host_port`
    0 nothing is rewritten: `port` of `ip` itself is open. `loopback6`: somebody serves [::1], else it is refused."""

    proto: Proto
    host_ip: IPv4Address | IPv6Address
    host_port: int
    ip: IPv4Address | IPv6Address
    port: int
    loopback6: bool = False


@dataclass(frozen=True, slots=True)
class _Device:
    name: str


# A part of a key or value; a str is a protocol, an int a port. A network is an interval, and alone.
_Part = _Device | IPv4Address | IPv6Address | IPv4Network | IPv6Network | Proto | int


@dataclass(frozen=True, slots=True)
class Member:
    """An element of the set or map `name`."""

    name: str
    key: tuple[_Part, ...]
    value: tuple[_Part, ...] = ()

    @property
    def text(self) -> str:
        """As nft(8) writes it."""
        key = " . ".join(map(_text, self.key))
        return f"{key} : {' . '.join(map(_text, self.value))}" if self.value else key

    @property
    def packed(self) -> Element:
        """As the kernel has it."""
        first = self.key[0]
        if isinstance(first, IPv4Network | IPv6Network):
            return Element(self.name, first.network_address.packed, last=first.broadcast_address.packed)
        return Element(self.name, b"".join(map(_packed, self.key)), value=b"".join(map(_packed, self.value)))


def _text(part: _Part) -> str:
    return f'"{part.name}"' if isinstance(part, _Device) else str(part)


def _packed(part: _Part) -> bytes:
    """Each part of a concatenation is padded to four bytes."""
    if isinstance(part, _Device):
        return part.name.encode().ljust(16, b"\0")
    if isinstance(part, int):
        return struct.pack(">Hxx", part)
    if isinstance(part, str):
        return struct.pack("Bxxx", _PROTOS[part])
    assert isinstance(part, IPv4Address | IPv6Address)
    return part.packed


def members(
    bridges: Iterable[BridgeRules] = (), ports: Iterable[Publication] = (), sources: Iterable[Source] = ()
) -> list[Member]:
    """Of networks first those that say nothing without the rest."""
    found: list[Member] = []
    for bridge in bridges:
        found += _of_bridge(bridge)
    for port in ports:
        found += _of_port(port)
    for source in sources:
        found.append(Member(f"sources{'6' if source.ip.version == 6 else ''}", (_Device(source.interface), source.ip)))
    return found


def _of_bridge(bridge: BridgeRules) -> list[Member]:
    device = _Device(bridge.interface)
    found: list[Member] = []
    for subnet, mode, six in ((bridge.subnet, bridge.mode, ""), (bridge.subnet6, bridge.mode6, "6")):
        if subnet is None:
            continue
        found.append(Member(f"subnets{six}", (subnet,)))
        if bridge.ip_masq and not bridge.internal and mode in ("nat", "nat-unprotected"):
            found.append(Member(f"masqueraded{six}", (subnet,)))
        if bridge.rooted6 if six else bridge.rooted:
            found.append(Member(f"rooted{six}", (device,)))
        if mode == "routed":
            found.append(Member(f"routed{six}", (device,)))
        if mode == "nat-unprotected":
            found.append(Member(f"open{six}", (device,)))
    if bridge.internal:
        found.append(Member("internal", (device,)))
    if bridge.icc:
        found.append(Member("same-bridge", (device, device)))
    return [*found, Member("bridges", (device,))]


def _of_port(port: Publication) -> list[Member]:
    six = "6" if port.ip.version == 6 else ""
    if not port.host_port:
        return [Member(f"open-ports{six}", (port.ip, port.proto, port.port))]
    target = (port.ip, port.port)
    if port.host_ip in (ANY, ANY6):
        found = [Member(f"publish-any{six}", (port.proto, port.host_port), target)]
        if six and not port.loopback6:
            found.append(Member("refused6", (port.proto, port.host_port)))
        return found
    key = (port.host_ip, port.proto, port.host_port)
    found = [Member(f"publish{six}", key, target)]
    if port.host_ip.is_loopback:
        found.append(Member("loopback-ports", key))
    return found


def text(table: str, found: Sequence[Member]) -> str:
    """The nft(8) commands that add them all."""
    by_name: dict[str, list[str]] = {}
    for member in found:
        by_name.setdefault(member.name, []).append(member.text)
    return "".join(f"add element inet {table} {name} {{ {', '.join(items)} }}\n" for name, items in by_name.items())
