"""A sandbox's interface from the inside: its addresses, its settings, and the sandbox's way out. Used by every driver
that gives interfaces, in the engine's thread."""

import errno
import os
import re
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface

from rorqual import errdefs
from rorqual.libnetwork.model import Endpoint, check_interface_name
from rorqual.libnetwork.netns import NamespaceDir
from rorqual.linux import netlink
from rorqual.linux.netlink import Request, RtNetlink

IFNAME = "com.docker.network.endpoint.ifname"
SYSCTLS = "com.docker.network.endpoint.sysctls"
# What every router of a link may be called by; Docker gives it to its bridges too.
LINK_LOCAL = IPv6Address("fe80::1")
# net.<family>.<conf or neigh or mpls>.IFNAME.<name>: of this interface, and of nothing else.
_SYSCTL = re.compile(r"net\.(ipv4|ipv6)\.(conf|neigh)\.IFNAME\.([a-z0-9_]+)=(.*)")


def mac_of(address: IPv4Address | IPv6Address) -> str:
    """The MAC address for an IP address: locally administered, the same for the same address always, so that neighbour
    tables stay right when the address is used again. For IPv4 it is Docker's."""
    if address.version == 4:
        return netlink.mac_text(b"\x02\x42" + address.packed)
    return netlink.mac_text(b"\x02\x46" + address.packed[-4:])


def settings(endpoint: Endpoint) -> list[tuple[str, str]]:
    """(path below /proc/sys, value) of the sysctls that its driver options ask for.

    Raises errdefs.InvalidArgument for one that is not this interface's.
    """
    found = []
    for item in filter(None, (endpoint.driver_opts.get(SYSCTLS) or "").split(",")):
        match = _SYSCTL.fullmatch(item.strip())
        if match is None:
            raise errdefs.InvalidArgument(f"invalid sysctl for an endpoint (net.X.Y.IFNAME.Z=V is asked for): {item!r}")
        found.append((f"net/{match[1]}/{match[2]}/{endpoint.interface}/{match[3]}", match[4]))
    return found


def chosen_name(endpoint_opts: str, taken: set[str], prefix: str = "eth") -> str:
    """The interface's name: the one asked for, else the first free ethN. Raises errdefs.InvalidArgument, Conflict."""
    if endpoint_opts:
        if endpoint_opts in taken or endpoint_opts == "lo":
            raise errdefs.Conflict(f"interface name {endpoint_opts} is in use in this container")
        return check_interface_name(endpoint_opts)
    return next(name for number in range(len(taken) + 1) if (name := f"{prefix}{number}") not in taken)


def configure(
    namespaces: NamespaceDir, netns_fd: int, inner: RtNetlink, endpoint: Endpoint, *, accept_ra: bool = True
) -> None:
    """Give the interface, which is in the sandbox already, its addresses and settings, and bring it up. Without
    `accept_ra` it listens to no router's advertisements: where we are the router, any is a neighbour's forgery
    (CVE-2020-13401)."""
    link = inner.link(endpoint.interface)
    if link is None:
        raise errdefs.Internal(f"interface {endpoint.interface} did not appear in sandbox {endpoint.sandbox_id}")
    written = settings(endpoint)
    if endpoint.ip6:
        # Sandboxes start with IPv6 off for new interfaces.
        written.insert(0, (f"net/ipv6/conf/{endpoint.interface}/disable_ipv6", "0"))
        if not accept_ra:
            written.insert(0, (f"net/ipv6/conf/{endpoint.interface}/accept_ra", "0"))
    if written:
        with namespaces.entered(netns_fd):
            for path, value in written:
                _write(path, value)
    requests: list[Request] = [netlink.set_link(index=link.index, up=True)]
    if endpoint.ip:
        address = IPv4Address(endpoint.ip)
        broadcast = int(address) | ((1 << (32 - endpoint.prefix)) - 1)
        requests.append(
            netlink.new_address(link.index, address.packed, endpoint.prefix, broadcast=IPv4Address(broadcast).packed)
        )
    if endpoint.ip6:
        requests.append(netlink.new_address(link.index, IPv6Address(endpoint.ip6).packed, endpoint.prefix6))
    for text in endpoint.link_local_ips:
        local = ip_interface(text)
        requests.append(netlink.new_address(link.index, local.packed, 16 if local.version == 4 else 64))
    inner.transact(requests)


def route_out(inner: RtNetlink, endpoints: Sequence[Endpoint], way_out: Endpoint) -> None:
    """Make `way_out` the sandbox's default route, of each family that it has a gateway for; a family that it has none
    for goes by the next best."""
    ranked = sorted(endpoints, key=lambda e: (e.id != way_out.id, -e.gw_priority, e.network_name))
    requests = []
    for own, attribute, family in (("ip", "gateway", socket.AF_INET), ("ip6", "gateway6", socket.AF_INET6)):
        best = next((e for e in ranked if getattr(e, attribute) or (e.onlink and getattr(e, own))), None)
        link = inner.link(best.interface) if best is not None else None
        if best is not None and link is not None:
            gateway = getattr(best, attribute)
            packed = ip_address(gateway).packed if gateway else b""
            requests.append(netlink.new_route(gateway=packed, oif=link.index, family=family))
    inner.transact(requests)


def _write(path: str, value: str) -> None:
    """Raises errdefs.InvalidArgument for a setting that the kernel does not know or take."""
    try:
        fd = os.open(f"/proc/sys/{path}", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        if path.startswith("net/ipv6"):
            return  # a kernel without IPv6: the address will say so
        raise errdefs.InvalidArgument(f"no such sysctl: {path.replace('/', '.')}") from error
    try:
        os.write(fd, value.encode())
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise errdefs.InvalidArgument(f"invalid value for sysctl {path.replace('/', '.')}: {value}") from error
    finally:
        os.close(fd)
