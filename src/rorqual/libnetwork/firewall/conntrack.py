"""Forgetting UDP flows through ctnetlink: a flow's first packet decided its rewriting, for as long as it lasts.

Source: linux/netfilter/nfnetlink_conntrack.h. Acts on the calling thread's network namespace.
"""

import errno
import logging
import socket
import struct

from rorqual.linux.nlmessage import NLA_F_NESTED, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, attr, parse_attrs

log = logging.getLogger(__name__)

_GET, _DELETE = (1 << 8) | 1, (1 << 8) | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_{GET,DELETE}
_TUPLE_ORIG, _TUPLE_PROTO, _PROTO_NUM, _PROTO_DST_PORT = 1, 2, 1, 3
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def forget_udp(ports: frozenset[int]) -> None:
    """Delete the UDP flows that clients opened to these ports. Failure is logged: such flows time out by themselves."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 12) as sock:
            sock.bind((0, 0))
            for family in _FAMILIES:
                _forget(sock, struct.pack("=BBH", family, 0, 0), ports)
    except OSError as error:
        log.warning("cannot look at the connection table: %s", error)


def _forget(sock: socket.socket, genmsg: bytes, ports: frozenset[int]) -> None:
    for original in _flows(sock, genmsg, ports):
        body = genmsg + attr(_TUPLE_ORIG | NLA_F_NESTED, original)
        sock.send(struct.pack("=LHHLL", 16 + len(body), _DELETE, NLM_F_REQUEST | NLM_F_ACK, 2, 0) + body)
        code = -struct.unpack_from("=i", sock.recv(4096), 16)[0]
        if code not in (0, errno.ENOENT):
            log.warning("cannot delete a conntrack entry: errno %d", code)


def _flows(sock: socket.socket, genmsg: bytes, ports: frozenset[int]) -> list[bytes]:
    """CTA_TUPLE_ORIG, as the kernel wrote it, of each flow to one of `ports`."""
    sock.send(struct.pack("=LHHLL", 20, _GET, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + genmsg)
    found: list[bytes] = []
    while True:
        data = sock.recv(1 << 18)
        at = 0
        while at + 16 <= len(data):
            length, kind = struct.unpack_from("=LH", data, at)
            if kind == 3:  # NLMSG_DONE
                return found
            if kind == 2:  # NLMSG_ERROR
                code = -struct.unpack_from("=i", data, at + 16)[0]
                raise OSError(code, f"conntrack dump: errno {code}")
            original = parse_attrs(data[at + 20 : at + length]).get(_TUPLE_ORIG, b"")
            proto = parse_attrs(parse_attrs(original).get(_TUPLE_PROTO, b""))
            port = struct.unpack("!H", proto[_PROTO_DST_PORT][:2])[0] if _PROTO_DST_PORT in proto else -1
            if proto.get(_PROTO_NUM, b"")[:1] == b"\x11" and port in ports:
                found.append(original)
            at += (length + 3) & ~3
