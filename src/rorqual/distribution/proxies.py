"""Which proxy a request goes through: the daemon's own settings, else the environment, by the rules of Go's net/http.

    http://    HTTP_PROXY        NO_PROXY: *, addresses, networks, names (example.com: it and all below it;
    https://   HTTPS_PROXY                 .example.com: those below it only), each with :port or without

A proxy without scheme is spoken to in http. localhost and loopback addresses are never proxied.
Source: golang.org/x/net/http/httpproxy; dockerd's `proxies`.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from rorqual.errdefs import InvalidArgument

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxies:
    """URLs, perhaps with user and password, and the list of what needs none; "" is none."""

    http: str = ""
    https: str = ""
    none: str = ""

    def over(self, environment: Mapping[str, str] = os.environ) -> Proxies:
        """These, and what they leave open from the environment, in capitals first."""

        def found(own: str, name: str) -> str:
            return own or environment.get(name) or environment.get(name.lower(), "")

        return Proxies(found(self.http, "HTTP_PROXY"), found(self.https, "HTTPS_PROXY"), found(self.none, "NO_PROXY"))

    def choose(self, url: str) -> str | None:
        """The proxy for `url`, None for a direct connection. Raises: InvalidArgument for one that cannot be used."""
        parts = urlsplit(url)
        proxy = self.https if parts.scheme == "https" else self.http
        if not proxy or not parts.hostname or self._is_direct(parts):
            return None
        if "://" not in proxy:
            proxy = f"http://{proxy}"
        scheme = proxy.partition("://")[0].lower()
        if scheme not in _PORTS:
            raise InvalidArgument(f"proxy {masked(proxy)}: scheme {scheme!r} is not supported, http and https are")
        return proxy

    def _is_direct(self, parts: SplitResult) -> bool:
        host = (parts.hostname or "").rstrip(".")
        port = parts.port or _PORTS.get(parts.scheme, 0)
        address = _address(host)
        if host == "localhost" or (address is not None and address.is_loopback):
            return True
        return any(_excludes(entry.strip().lower(), host, port, address) for entry in self.none.split(","))


def _excludes(entry: str, host: str, port: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        try:
            network = ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
        return address is not None and address.version == network.version and address in network
    if _address(entry) is None and (split := urlsplit(f"//{entry}")).hostname is not None:
        head, _, number = entry.rpartition(":")
        if head and number.isdigit():
            if int(number) != port:
                return False
            entry = split.hostname or ""
    if (own := _address(entry.strip("[]"))) is not None:
        return own == address
    name = entry.removeprefix("*")
    return bool(name.strip(".")) and (host.endswith(f".{name.lstrip('.')}") or host == name)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def masked(url: str) -> str:
    """`url` without the user and password in it. Source: moby config.MaskCredentials."""
    head, at, host = url.rpartition("@")
    if not at:
        return url
    scheme, separator, _ = head.partition("://")
    return f"{scheme}://xxxxx:xxxxx@{host}" if separator else f"xxxxx:xxxxx@{host}"
