"""Where a node listens and what the others call it: the addresses of `swarm init`, completed. Texts are moby's."""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from rorqual.errdefs import InvalidArgument
from rorqual.linux.netlink import RtNetlink

DEFAULT_PORT = 2377

Address = IPv4Address | IPv6Address
Interfaces = Mapping[str, Sequence[Address]]


def host_addresses(ours: Collection[str] = ()) -> dict[str, list[Address]]:
    """The addresses of this host's interfaces that are up, but for those of `ours` (bridges of containers)."""
    with RtNetlink() as rtnl:
        names = {link.index: link.name for link in rtnl.links() if link.up and link.name not in ours}
        found: dict[str, list[Address]] = {}
        for family in (socket.AF_INET, socket.AF_INET6):
            for address in rtnl.addresses(family):
                if address.index in names:
                    found.setdefault(names[address.index], []).append(ip_address(address.address))
        return found


def listen(text: str, interfaces: Interfaces) -> str:
    """`host:port` to listen on. Raises: InvalidArgument."""
    host, port = _split(text or "0.0.0.0", DEFAULT_PORT)
    address = _of_interface(host, interfaces) or _parsed(host)
    if address is None:
        raise InvalidArgument("listen address must be an IP address or network interface (with optional port number)")
    return _joined(address, port)


def advertise(text: str, listening: str, interfaces: Interfaces) -> str:
    """`host:port` that the others call: what is asked for, or the host's only address. Raises: InvalidArgument."""
    listening_port = int(listening.rpartition(":")[2])
    if not text:
        return _joined(_only_address(interfaces), listening_port)
    host, port = _split(text, listening_port)
    address = _of_interface(host, interfaces) or _parsed(host)
    if address is None or address.is_unspecified:
        raise InvalidArgument(
            "advertise address must be a non-zero IP address or network interface (with optional port number)"
        )
    return _joined(address, port)


def data_path(text: str, interfaces: Interfaces) -> str:
    """The address of containers' traffic, "" for that which is advertised. Raises: InvalidArgument."""
    if not text:
        return ""
    address = _of_interface(text, interfaces) or _parsed(text)
    if address is None or address.is_unspecified:
        raise InvalidArgument("data path address must be a non-zero IP address or network interface")
    return str(address)


def _split(text: str, port: int) -> tuple[str, int]:
    """Raises: InvalidArgument."""
    if _parsed(text) is not None or ":" not in text:
        return text, port
    host, _, digits = text.rpartition(":")
    if not digits.isascii() or not digits.isdigit() or not 0 < int(digits) < 65536:
        raise InvalidArgument(f"could not parse address {text}: invalid port {digits!r}")
    return host.strip("[]"), int(digits)


def _parsed(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _joined(address: Address, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _of_interface(name: str, interfaces: Interfaces) -> Address | None:
    """Its only address of a family, IPv4 first; None for what is no interface's name. Raises: InvalidArgument."""
    if name not in interfaces:
        return None
    for version in (4, 6):
        found = [a for a in interfaces[name] if a.version == version and not a.is_link_local]
        if len(found) > 1:
            raise InvalidArgument(
                f"interface {name} has more than one IPv{version} address ({found[0]} and {found[1]})"
            )
        if found:
            return found[0]
    raise InvalidArgument(f"interface {name} has no usable IPv4 or IPv6 address")


def _only_address(interfaces: Interfaces) -> Address:
    for version in (4, 6):
        found = [
            (name, a)
            for name, addresses in interfaces.items()
            for a in addresses
            if a.version == version and not a.is_loopback and not a.is_link_local
        ]
        if len(found) > 1:
            (one, first), (other, second) = found[:2]
            where = f"interface {one}" if one == other else "different interfaces"
            listed = f"{first} and {second}" if one == other else f"{first} on {one} and {second} on {other}"
            raise InvalidArgument(
                f"could not choose an IP address to advertise since this system has multiple addresses on {where} "
                f"({listed})"
            )
        if found:
            return found[0][1]
    raise InvalidArgument("could not find the system's IP address")
