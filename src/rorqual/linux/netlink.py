"""rtnetlink, as much of it as container networks need, encoded by hand.

pyroute2 costs tens of milliseconds to import and more for a request than the kernel does; a container's whole network
is seven requests, so they are packed with struct here and sent in batches: the kernel works through one in order and
answers each request with an ACK.

    nlmsghdr  len u32 | type u16 | flags u16 | seq u32 | pid u32 | payload, padded to 4

A `RtNetlink` socket belongs to the network namespace its thread was in when it was opened, for ever: a socket opened
inside a namespace goes on configuring that one after the thread has left it. Not safe for use by two threads at once.

Source: rtnetlink(7), linux/rtnetlink.h, linux/if_link.h, linux/veth.h.
"""

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from rorqual.linux.nlmessage import (
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    SOL_NETLINK,
    attr,
    attr_str,
    attr_u8,
    attr_u32,
    parse_attrs,
)

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NETLINK_EXT_ACK = 11

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
_IPV4_ROUTES, _IPV6_ROUTES = 0x40, 0x400  # RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE
RTM_NEWROUTE, RTM_GETROUTE = 24, 26

IFF_UP = 0x1
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
IFLA_NET_NS_FD = 28
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED = 4, 33
IFLA_BR_NF_CALL_IPTABLES, IFLA_BR_NF_CALL_IP6TABLES = 36, 37
IFLA_MACVLAN_MODE, IFLA_IPVLAN_MODE, IFLA_IPVLAN_FLAGS, IFLA_VLAN_ID = 1, 1, 2, 1
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}
VETH_INFO_PEER = 1

IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_NODAD = 0x02
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_TABLE = 1, 4, 5, 15
RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RTN_UNICAST = 254, 3, 0, 253, 1

_HDR = struct.Struct("=LHHLL")
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBi")
_RTMSG = struct.Struct("=BBBBBBBBI")


@dataclass(frozen=True, slots=True)
class Request:
    """One message without its sequence number. `ignore` holds the errnos that count as success."""

    kind: int
    flags: int
    payload: bytes
    what: str
    ignore: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface as RTM_GETLINK tells it. `master` is an ifindex, 0 for none."""

    index: int
    name: str
    flags: int
    mac: str
    mtu: int
    master: int
    kind: str

    @property
    def up(self) -> bool:
        return bool(self.flags & IFF_UP)


@dataclass(frozen=True, slots=True)
class Address:
    index: int
    address: bytes
    prefix: int


@dataclass(frozen=True, slots=True)
class Route:
    """A route of any table; `destination` is b"" for the default route, `oif` 0 where it has no single device."""

    destination: bytes
    prefix: int
    oif: int
    table: int


def mac_bytes(mac: str) -> bytes:
    """Raises ValueError unless `mac` is six colon-separated hex bytes."""
    raw = bytes.fromhex(mac.replace(":", "").replace("-", ""))
    if len(raw) != 6:
        raise ValueError(f"invalid MAC address: {mac}")
    return raw


def mac_text(raw: bytes) -> str:
    return raw.hex(":")


# --- requests ---------------------------------------------------------------------------------------------------


def _ifinfo(index: int = 0, flags: int = 0, change: int = 0, family: int = 0) -> bytes:
    return _IFINFO.pack(family, 0, index, flags, change)


def new_bridge(name: str, *, mac: str, mtu: int = 0) -> Request:
    """Create a bridge, up. A fixed MAC keeps it from changing with its ports (neighbours would have stale ARP)."""
    payload = _ifinfo(flags=IFF_UP, change=IFF_UP) + attr_str(IFLA_IFNAME, name) + attr(IFLA_ADDRESS, mac_bytes(mac))
    if mtu:
        payload += attr_u32(IFLA_MTU, mtu)
    payload += attr(IFLA_LINKINFO | NLA_F_NESTED, attr_str(IFLA_INFO_KIND, "bridge"))
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, payload, f"create bridge {name}")


def filter_bridged(index: int) -> Request:
    """Show frames that the bridge passes between its ports to the IP filter hooks, whatever the global sysctl says."""
    calls = attr_u8(IFLA_BR_NF_CALL_IPTABLES, 1) + attr_u8(IFLA_BR_NF_CALL_IP6TABLES, 1)
    data = attr(IFLA_INFO_DATA | NLA_F_NESTED, calls)
    info = attr(IFLA_LINKINFO | NLA_F_NESTED, attr_str(IFLA_INFO_KIND, "bridge") + data)
    return Request(RTM_NEWLINK, 0, _ifinfo(index) + info, f"set nf_call_iptables of bridge {index}")


def new_veth(
    name: str, *, master: int, mtu: int, peer: str, peer_mac: str, peer_netns_fd: int, mac: str = ""
) -> Request:
    """Create a veth pair: `name` up and a port of bridge `master`, `peer` born in the other namespace.

    The peer stays down: the kernel opens it before it has a peer of its own, which fails with ENOTCONN.
    """
    far = _ifinfo() + attr_str(IFLA_IFNAME, peer)
    far += attr(IFLA_ADDRESS, mac_bytes(peer_mac)) + attr_u32(IFLA_NET_NS_FD, peer_netns_fd)
    if mtu:
        far += attr_u32(IFLA_MTU, mtu)
    payload = _ifinfo(flags=IFF_UP, change=IFF_UP) + attr_str(IFLA_IFNAME, name)
    if mac:
        payload += attr(IFLA_ADDRESS, mac_bytes(mac))
    if mtu:
        payload += attr_u32(IFLA_MTU, mtu)
    if master:
        payload += attr_u32(IFLA_MASTER, master)
    info = attr_str(IFLA_INFO_KIND, "veth")
    info += attr(IFLA_INFO_DATA | NLA_F_NESTED, attr(VETH_INFO_PEER | NLA_F_NESTED, far))
    payload += attr(IFLA_LINKINFO | NLA_F_NESTED, info)
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, payload, f"create veth {name}")


def new_slave(
    kind: str, name: str, *, parent: int, netns_fd: int, mac: str = "", mtu: int = 0, data: bytes = b""
) -> Request:
    """Create an interface of `kind` on top of `parent`, in the other namespace, down. `data` are the kind's own
    attributes (`macvlan_data`, `ipvlan_data`)."""
    payload = _ifinfo() + attr_str(IFLA_IFNAME, name) + attr_u32(IFLA_LINK, parent) + attr_u32(IFLA_NET_NS_FD, netns_fd)
    if mac:
        payload += attr(IFLA_ADDRESS, mac_bytes(mac))
    if mtu:
        payload += attr_u32(IFLA_MTU, mtu)
    info = attr_str(IFLA_INFO_KIND, kind) + attr(IFLA_INFO_DATA | NLA_F_NESTED, data)
    payload += attr(IFLA_LINKINFO | NLA_F_NESTED, info)
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, payload, f"create {kind} {name}")


def new_vlan(name: str, *, parent: int, vlan: int) -> Request:
    """Create an 802.1q sub-interface, up."""
    payload = _ifinfo(flags=IFF_UP, change=IFF_UP) + attr_str(IFLA_IFNAME, name) + attr_u32(IFLA_LINK, parent)
    data = attr(IFLA_VLAN_ID, struct.pack("=H", vlan))
    info = attr_str(IFLA_INFO_KIND, "vlan") + attr(IFLA_INFO_DATA | NLA_F_NESTED, data)
    payload += attr(IFLA_LINKINFO | NLA_F_NESTED, info)
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, payload, f"create vlan {name}")


def macvlan_data(mode: str) -> bytes:
    return attr_u32(IFLA_MACVLAN_MODE, MACVLAN_MODES[mode])


def ipvlan_data(mode: str, flag: str) -> bytes:
    mode_attr = attr(IFLA_IPVLAN_MODE, struct.pack("=H", IPVLAN_MODES[mode]))
    return mode_attr + attr(IFLA_IPVLAN_FLAGS, struct.pack("=H", IPVLAN_FLAGS[flag]))


def set_bridge_port(name: str, *, hairpin: bool, isolated: bool) -> Request:
    """Set a bridge port's flags by its name."""
    port = attr_u8(IFLA_BRPORT_MODE, hairpin) + attr_u8(IFLA_BRPORT_ISOLATED, isolated)
    slave = attr_str(IFLA_INFO_SLAVE_KIND, "bridge") + attr(IFLA_INFO_SLAVE_DATA | NLA_F_NESTED, port)
    payload = _ifinfo() + attr_str(IFLA_IFNAME, name) + attr(IFLA_LINKINFO | NLA_F_NESTED, slave)
    return Request(RTM_NEWLINK, 0, payload, f"configure bridge port {name}")


def set_link(
    *,
    index: int = 0,
    name: str = "",
    up: bool | None = None,
    mac: str = "",
    mtu: int = 0,
    rename: str = "",
    master: int = -1,
) -> Request:
    """Change an interface, found by `index`, or by `name` where `index` is 0."""
    flags = IFF_UP if up else 0
    payload = _ifinfo(index, flags, 0 if up is None else IFF_UP)
    if not index or rename:
        payload += attr_str(IFLA_IFNAME, rename or name)
    if mac:
        payload += attr(IFLA_ADDRESS, mac_bytes(mac))
    if mtu:
        payload += attr_u32(IFLA_MTU, mtu)
    if master >= 0:
        payload += attr_u32(IFLA_MASTER, master)
    return Request(RTM_NEWLINK, 0, payload, f"set link {name or index}")


def move_link(index: int, netns_fd: int, rename: str) -> Request:
    """Move an interface into another namespace under another name, in one step: its old name may be taken there."""
    payload = _ifinfo(index) + attr_str(IFLA_IFNAME, rename) + attr_u32(IFLA_NET_NS_FD, netns_fd)
    return Request(RTM_NEWLINK, 0, payload, f"move link {index} as {rename}")


def del_link(name: str = "", *, index: int = 0, ignore: frozenset[int] = frozenset()) -> Request:
    payload = _ifinfo(index) + (b"" if index else attr_str(IFLA_IFNAME, name))
    return Request(RTM_DELLINK, 0, payload, f"delete link {name or index}", ignore)


def new_address(index: int, address: bytes, prefix: int, *, broadcast: bytes = b"") -> Request:
    """Add an address (4 or 16 bytes); an identical one is no error. IPv6 without duplicate detection."""
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    payload = _IFADDR.pack(family, prefix, 0, 0, index) + attr(IFA_LOCAL, address) + attr(IFA_ADDRESS, address)
    if broadcast:
        payload += attr(IFA_BROADCAST, broadcast)
    if family == socket.AF_INET6:
        payload += attr_u32(IFA_FLAGS, IFA_F_NODAD)
    what = f"add address {socket.inet_ntop(family, address)}/{prefix}"
    return Request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, payload, what)


def del_address(index: int, address: bytes, prefix: int) -> Request:
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    payload = _IFADDR.pack(family, prefix, 0, 0, index) + attr(IFA_LOCAL, address)
    return Request(RTM_DELADDR, 0, payload, f"delete address {socket.inet_ntop(family, address)}/{prefix}")


def new_route(
    *, gateway: bytes = b"", oif: int = 0, destination: bytes = b"", prefix: int = 0, family: int = socket.AF_INET
) -> Request:
    """Add a route to the main table; no destination is the default route, no gateway an on-link one."""
    scope = RT_SCOPE_UNIVERSE if gateway else RT_SCOPE_LINK
    payload = _RTMSG.pack(family, prefix, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST, 0)
    if destination:
        payload += attr(RTA_DST, destination)
    if gateway:
        payload += attr(RTA_GATEWAY, gateway)
    if oif:
        payload += attr_u32(RTA_OIF, oif)
    return Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, payload, "add route")


# --- the socket -------------------------------------------------------------------------------------------------


class RtNetlink:
    """A socket on the network namespace of the thread that opens it. Close it, or use `with`."""

    __slots__ = ("_seq", "_sock")

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        try:
            self._sock.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
            self._sock.bind((0, 0))
        except BaseException:
            self._sock.close()
            raise
        self._seq = 0

    def __enter__(self) -> "RtNetlink":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._sock.close()

    def transact(self, requests: Sequence[Request]) -> None:
        """Send the requests as one batch and wait for all of their ACKs.

        The kernel does not stop at a failed request: those after it are tried. Raises OSError of the first failure.
        """
        if not requests:
            return
        first = self._seq + 1
        parts: list[bytes] = []
        for request in requests:
            self._seq += 1
            pad = -len(request.payload) & 3
            flags = request.flags | NLM_F_REQUEST | NLM_F_ACK
            parts.append(_HDR.pack(16 + len(request.payload) + pad, request.kind, flags, self._seq, 0))
            parts.append(request.payload + b"\0" * pad)
        self._sock.send(b"".join(parts))
        missing = len(requests)
        failure: OSError | None = None
        while missing:
            for kind, flags, seq, payload in _messages(self._sock.recv(65536)):
                if kind != NLMSG_ERROR or not first <= seq <= self._seq:
                    continue
                missing -= 1
                errno = -struct.unpack_from("=i", payload)[0]
                request = requests[seq - first]
                if errno and errno not in request.ignore and failure is None:
                    failure = OSError(errno, f"{request.what}: {os.strerror(errno)}{_ext_ack(flags, payload)}")
        if failure is not None:
            raise failure

    def _dump(self, kind: int, header: bytes) -> Iterator[bytes]:
        for attempt in range(5):
            collected: list[bytes] = []
            consistent = self._dump_once(kind, header, collected)
            if consistent or attempt == 4:
                yield from collected
                return

    def _dump_once(self, kind: int, header: bytes, into: list[bytes]) -> bool:
        """False when the table changed meanwhile (NLM_F_DUMP_INTR) and entries may be missing."""
        self._seq += 1
        seq, consistent = self._seq, True
        self._sock.send(_HDR.pack(16 + len(header), kind, NLM_F_REQUEST | NLM_F_DUMP, seq, 0) + header)
        while True:
            for mtype, flags, mseq, payload in _messages(self._sock.recv(1 << 18)):
                if mseq != seq:
                    continue
                consistent = consistent and not flags & 0x10
                if mtype == NLMSG_DONE:
                    return consistent
                if mtype == NLMSG_ERROR:
                    errno = -struct.unpack_from("=i", payload)[0]
                    raise OSError(errno, f"netlink dump: {os.strerror(errno)}")
                into.append(payload)

    def links(self) -> list[Link]:
        return [_parse_link(data) for data in self._dump(RTM_GETLINK, _ifinfo())]

    def link(self, name: str) -> Link | None:
        """The interface of that name, None when there is none."""
        self._seq += 1
        payload = _ifinfo() + attr_str(IFLA_IFNAME, name)
        payload += b"\0" * (-len(payload) & 3)
        self._sock.send(_HDR.pack(16 + len(payload), RTM_GETLINK, NLM_F_REQUEST, self._seq, 0) + payload)
        while True:
            for kind, _flags, seq, data in _messages(self._sock.recv(65536)):
                if seq != self._seq:
                    continue
                if kind != NLMSG_ERROR:
                    return _parse_link(data)
                errno = -struct.unpack_from("=i", data)[0]
                if errno == 19:  # ENODEV
                    return None
                raise OSError(errno, f"get link {name}: {os.strerror(errno)}")

    def addresses(self, family: int = socket.AF_INET) -> list[Address]:
        result = []
        for data in self._dump(RTM_GETADDR, _IFADDR.pack(family, 0, 0, 0, 0)):
            got, prefix, _flags, _scope, index = _IFADDR.unpack_from(data)
            attrs = parse_attrs(data[_IFADDR.size :])
            address = attrs.get(IFA_LOCAL) or attrs.get(IFA_ADDRESS, b"")
            if got == family:
                result.append(Address(index, address, prefix))
        return result

    def routes(self, family: int = socket.AF_INET) -> list[Route]:
        dumped = self._dump(RTM_GETROUTE, _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
        return [_parse_route(data) for data in dumped if data[0] == family]

    @staticmethod
    def new_routes(data: bytes, family: int) -> Iterator[Route]:
        """The routes that a datagram of `route_notifications` says were added."""
        for kind, _flags, _seq, payload in _messages(data):
            if kind == RTM_NEWROUTE and payload[0] == family:
                yield _parse_route(payload)


def route_notifications(family: int, buffer_bytes: int) -> socket.socket:
    """A non-blocking socket on which the kernel tells of changed routes, in the calling thread's network namespace."""
    sock = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
    )
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        sock.bind((0, _IPV4_ROUTES if family == socket.AF_INET else _IPV6_ROUTES))
    except BaseException:
        sock.close()
        raise
    return sock


def _parse_route(data: bytes) -> Route:
    head = _RTMSG.unpack_from(data)
    attrs = parse_attrs(data[_RTMSG.size :])
    oif = struct.unpack("=I", attrs[RTA_OIF])[0] if RTA_OIF in attrs else 0
    table = struct.unpack("=I", attrs[RTA_TABLE])[0] if RTA_TABLE in attrs else head[4]
    return Route(attrs.get(RTA_DST, b""), head[1], oif, table)


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence number, payload) of each message in a datagram."""
    at = 0
    while at + 16 <= len(data):
        length, kind, flags, seq, _pid = _HDR.unpack_from(data, at)
        if length < 16 or at + length > len(data):
            return
        yield kind, flags, seq, data[at + 16 : at + length]
        at += (length + 3) & ~3


def _ext_ack(flags: int, payload: bytes) -> str:
    """The kernel's own words on a failure (NLMSGERR_ATTR_MSG), or nothing."""
    if not flags & 0x200:  # NLM_F_ACK_TLVS
        return ""
    length = struct.unpack_from("=I", payload, 4)[0]
    start = 4 + (16 if flags & 0x100 else (length + 3) & ~3)  # NLM_F_CAPPED: only the header came back
    message = parse_attrs(payload[start:]).get(1)
    return f" ({message.rstrip(bytes(1)).decode(errors='replace')})" if message else ""


def _parse_link(data: bytes) -> Link:
    _family, _type, index, flags, _change = _IFINFO.unpack_from(data)
    attrs = parse_attrs(data[_IFINFO.size :])
    info = parse_attrs(attrs.get(IFLA_LINKINFO, b""))
    return Link(
        index=index,
        name=attrs.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace"),
        flags=flags,
        mac=mac_text(attrs.get(IFLA_ADDRESS, b"")),
        mtu=struct.unpack("=I", attrs[IFLA_MTU])[0] if IFLA_MTU in attrs else 0,
        master=struct.unpack("=I", attrs[IFLA_MASTER])[0] if IFLA_MASTER in attrs else 0,
        kind=info.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode(errors="replace"),
    )
