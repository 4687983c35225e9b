"""Whether a request comes from a web page: who reads a page shall not thereby command the engine on their machine.

A browser sends requests of any page to any address, the loopback's too. It says whose page it is in Origin (with every
WebSocket, and with what may change something), but a page whose name its owner lets resolve to 127.0.0.1 is of the same
origin as what listens there. So two things are refused on tcp:

    Origin      of another host than the request's; "null", of a page without one
    Host        a name that is none of this machine's, on the loopback and without TLS, where no certificate says whose
                the name is

Programs send no Origin, and the address that they connect to as Host. Source: RFC 6454, RFC 6455 section 10.2, Fetch.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit


def refusal(headers: Mapping[str, str], address: object, *, tls: bool) -> str:
    """Why the request is refused, "" when it is not. `address`: the local one of its socket (getsockname(2))."""
    if not isinstance(address, tuple):
        return ""  # a unix socket: no browser reaches it
    host = headers.get("Host", "")
    origin = headers.get("Origin")
    if origin is not None and not _is_same(origin, host):
        return f"requests of web pages are refused: origin {origin[:200]!r} is not {host[:200]!r}"
    if not tls and ipaddress.ip_address(address[0].partition("%")[0]).is_loopback and not _is_own(_name(host)):
        return f"host {host[:200]!r} is no name of this machine: use localhost or an address"
    return ""


def _is_same(origin: str, host: str) -> bool:
    try:
        return bool(host) and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def _name(host: str) -> str:
    """Without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_own(name: str) -> bool:
    """An address, nothing, or what means this machine wherever it is asked. Nothing is looked up."""
    name = name.lower().removesuffix(".")
    own = socket.gethostname().lower()
    if name in ("", "localhost", own, own.partition(".")[0]) or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
