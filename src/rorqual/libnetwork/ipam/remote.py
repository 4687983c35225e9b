"""IPAM that is a plugin: it gives subnets to networks and addresses to endpoints.

Source: moby libnetwork/docs/ipam.md.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from rorqual import errdefs
from rorqual.libnetwork.ipam.pools import Subnet
from rorqual.libnetwork.plugins import NetworkPlugin

log = logging.getLogger(__name__)

_ADDRESS_TYPE, _GATEWAY = "RequestAddressType", "com.docker.network.gateway"


@dataclass(frozen=True, slots=True)
class Pool:
    """A subnet that the plugin gave, with its own name for it."""

    id: str
    subnet: Subnet
    gateway: IPv4Address | IPv6Address | None


def request_pool(
    plugin: NetworkPlugin, *, subnet: str, part: str, options: Mapping[str, str], version: int, gateway: str
) -> Pool:
    """A pool of that family; texts are "" for the plugin to choose. What is taken and then does not fit is given back.
    Raises errdefs.Internal, Unavailable, NotFound."""
    space = plugin.call("GetDefaultAddressSpaces").text("LocalDefaultAddressSpace")
    answer = plugin.call(
        "RequestPool", AddressSpace=space, Pool=subnet, SubPool=part, Options=dict(options), V6=version == 6
    )
    ident = answer.text("PoolID")
    try:
        given = answer.interface("Pool")
        if given is None or given.version != version:
            raise errdefs.Internal(f"plugin {plugin.name} gave {given or 'no pool'} for IPv{version}")
        said = None if gateway else answer.part("Data").interface(_GATEWAY)
        if said is None:
            said = plugin.call(
                "RequestAddress", PoolID=ident, Address=gateway, Options={_ADDRESS_TYPE: _GATEWAY}
            ).interface("Address")
        if said is not None and said.ip not in given.network:
            raise errdefs.Internal(f"plugin {plugin.name} gave the gateway {said.ip}, which is not in {given.network}")
    except errdefs.Error:
        release_pool(plugin, ident)
        raise
    return Pool(ident, given.network, said.ip if said is not None else None)


def release_pool(plugin: NetworkPlugin, ident: str) -> None:
    """Give it back; a plugin that fails to take it is logged."""
    try:
        plugin.call("ReleasePool", PoolID=ident)
    except errdefs.Error as error:
        log.warning("IPAM plugin %s: %s", plugin.name, error)


class RemoteAllocator:
    """The addresses of a pool, as `allocator.Allocator` gives a local one's."""

    cursor = 0  # what comes next is the plugin's business

    def __init__(self, plugin: NetworkPlugin, pool_id: str, subnet: Subnet) -> None:
        self._plugin, self._pool_id, self._subnet = plugin, pool_id, subnet

    def reserve(self, address: IPv4Address | IPv6Address) -> None:
        return  # the plugin remembers what it gave

    def request(self, address: IPv4Address | IPv6Address) -> None:
        self._ask(str(address))

    def allocate(self, network: str) -> IPv4Address | IPv6Address:
        return self._ask("")

    def _ask(self, wanted: str) -> IPv4Address | IPv6Address:
        answer = self._plugin.call("RequestAddress", PoolID=self._pool_id, Address=wanted, Options={})
        given = answer.interface("Address")
        if given is None or given.ip not in self._subnet:
            raise errdefs.Internal(
                f"plugin {self._plugin.name} gave {given or 'no address'}, which is not in {self._subnet}"
            )
        return given.ip

    def release(self, address: IPv4Address | IPv6Address) -> None:
        try:
            self._plugin.call("ReleaseAddress", PoolID=self._pool_id, Address=str(address))
        except errdefs.Error as error:
            log.warning("IPAM plugin %s: %s", self._plugin.name, error)
