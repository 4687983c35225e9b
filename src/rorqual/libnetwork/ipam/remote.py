"""IPAM that is a plugin: it gives subnets to networks and addresses to endpoints.

Source: moby libnetwork/docs/ipam.md.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_interface
from typing import Any

from rorqual import errdefs
from rorqual.libnetwork.ipam.pools import Subnet
from rorqual.plugins import Plugin

log = logging.getLogger(__name__)

_ADDRESS_TYPE, _GATEWAY = "RequestAddressType", "com.docker.network.gateway"


@dataclass(frozen=True, slots=True)
class Pool:
    """A subnet that the plugin gave, with its own name for it."""

    id: str
    subnet: Subnet
    gateway: IPv4Address | IPv6Address | None


def _call(plugin: Plugin, method: str, **body: Any) -> dict[str, Any]:
    return plugin.call(f"IpamDriver.{method}", body)


def request_pool(
    plugin: Plugin, *, subnet: str, part: str, options: Mapping[str, str], version: int, gateway: str
) -> Pool:
    """A pool of that family; texts are "" for the plugin to choose. Raises errdefs.Internal, Unavailable."""
    spaces = _call(plugin, "GetDefaultAddressSpaces")
    space = str(spaces.get("LocalDefaultAddressSpace") or "")
    answer = _call(
        plugin, "RequestPool", AddressSpace=space, Pool=subnet, SubPool=part, Options=dict(options), V6=version == 6
    )
    ident = str(answer.get("PoolID") or "")
    given = _interface(plugin, "RequestPool", answer.get("Pool"))
    said = (answer.get("Data") or {}).get(_GATEWAY)
    if said and not gateway:
        return Pool(ident, given.network, _interface(plugin, "RequestPool", said).ip)
    try:
        way = _call(plugin, "RequestAddress", PoolID=ident, Address=gateway, Options={_ADDRESS_TYPE: _GATEWAY}).get(
            "Address"
        )
    except errdefs.Error:
        release_pool(plugin, ident)
        raise
    return Pool(ident, given.network, _interface(plugin, "RequestAddress", way).ip if way else None)


def release_pool(plugin: Plugin, ident: str) -> None:
    """Give it back; a plugin that fails to take it is logged."""
    try:
        _call(plugin, "ReleasePool", PoolID=ident)
    except errdefs.Error as error:
        log.warning("IPAM plugin %s: %s", plugin.name, error)


def _interface(plugin: Plugin, method: str, text: Any) -> IPv4Interface | IPv6Interface:
    try:
        return ip_interface(str(text))
    except ValueError as error:
        raise errdefs.Internal(f"plugin {plugin.name} answers {method} with no address: {text!r}") from error


class RemoteAllocator:
    """The addresses of a pool, as `allocator.Allocator` gives a local one's."""

    cursor = 0  # what comes next is the plugin's business

    def __init__(self, plugin: Plugin, pool_id: str) -> None:
        self._plugin, self._pool_id = plugin, pool_id

    def reserve(self, address: IPv4Address | IPv6Address) -> None:
        return  # the plugin remembers what it gave

    def request(self, address: IPv4Address | IPv6Address) -> None:
        self._ask(str(address))

    def allocate(self, network: str) -> IPv4Address | IPv6Address:
        return self._ask("")

    def _ask(self, wanted: str) -> IPv4Address | IPv6Address:
        answer = _call(self._plugin, "RequestAddress", PoolID=self._pool_id, Address=wanted, Options={})
        return _interface(self._plugin, "RequestAddress", answer.get("Address")).ip

    def release(self, address: IPv4Address | IPv6Address) -> None:
        try:
            _call(self._plugin, "ReleaseAddress", PoolID=self._pool_id, Address=str(address))
        except errdefs.Error as error:
            log.warning("IPAM plugin %s: %s", self._plugin.name, error)
