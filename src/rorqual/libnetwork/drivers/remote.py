"""A network driver that is a plugin: it is told of networks and endpoints, and says which of the host's interfaces is
to become the sandbox's.

    CreateNetwork, DeleteNetwork
    CreateEndpoint -> Join (the interface's name) ... Leave -> DeleteEndpoint

Source: moby libnetwork/docs/remote.md. Networks of a plugin are its own to keep over restarts of this daemon. While a
plugin is asked, others use the engine: see `baton`.
"""

import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from rorqual import errdefs
from rorqual.libnetwork import interfaces, networks
from rorqual.libnetwork.drivers.base import Opened
from rorqual.libnetwork.model import Endpoint, Network, PortBinding, PublishedPort, SandboxID
from rorqual.libnetwork.netns import NamespaceDir
from rorqual.libnetwork.plugins import Answer, NetworkPlugin
from rorqual.linux import netlink
from rorqual.linux.netlink import Request, RtNetlink

log = logging.getLogger(__name__)

_GENERIC = "com.docker.network.generic"
_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}
_BY_GATEWAY = 0  # RouteType: 1 is a route to what is on the link
_Route = tuple[IPv4Network | IPv6Network, IPv4Address | IPv6Address | None]


class RemoteDriver:
    """All networks of one plugin. `known` are the networks that it has been told of before this daemon's start."""

    addressed = True

    def __init__(self, plugin: NetworkPlugin, namespaces: NamespaceDir, known: frozenset[str] = frozenset()) -> None:
        self.name = plugin.name
        self._plugin = plugin
        self._namespaces = namespaces
        self._netlink = RtNetlink()
        self._known = set(known)

    def close(self) -> None:
        self._netlink.close()

    # --- networks

    def shape(self, network: Network) -> Network:
        networks.one_of_each(network)
        return network

    def bring_up(self, network: Network) -> None:
        if network.id in self._known:
            return
        pools: dict[str, list[dict[str, Any]]] = {"IPv4Data": [], "IPv6Data": []}
        for key, subnet, gateway in (
            ("IPv4Data", network.subnet, network.gateway),
            ("IPv6Data", network.subnet6, network.gateway6),
        ):
            if subnet is not None:
                way = f"{gateway}/{subnet.prefixlen}" if gateway is not None else ""
                pools[key].append({"AddressSpace": "LocalDefault", "Pool": str(subnet), "Gateway": way})
        options = {
            _GENERIC: dict(network.options),
            "com.docker.network.internal": network.internal,
            "com.docker.network.enable_ipv6": network.enable_ipv6,
        }
        self._plugin.call("CreateNetwork", NetworkID=network.id, Options=options, **pools)
        self._known.add(network.id)

    def take_down(self, network: Network) -> None:
        """Whatever the plugin says of it, as Docker does: the network of a plugin that is gone can be removed too."""
        if network.id in self._known:
            self._forgiving("DeleteNetwork", NetworkID=network.id)
            self._known.discard(network.id)

    # --- endpoints

    def join(self, network: Network, endpoint: Endpoint) -> Endpoint:
        ids = {"NetworkID": network.id, "EndpointID": endpoint.id}
        interface = {
            "Address": f"{endpoint.ip}/{endpoint.prefix}" if endpoint.ip else "",
            "AddressIPv6": f"{endpoint.ip6}/{endpoint.prefix6}" if endpoint.ip6 else "",
            "MacAddress": endpoint.mac,
        }
        with ExitStack() as undo:
            options = dict(endpoint.driver_opts)
            made = self._plugin.call("CreateEndpoint", **ids, Interface=interface, Options=options)
            undo.callback(self._forgiving, "DeleteEndpoint", **ids)
            endpoint = _decided(endpoint, made.part("Interface"))
            path = self._namespaces.path_of(endpoint.sandbox_id)
            joined = self._plugin.call("Join", **ids, SandboxKey=path, Options=options)
            undo.callback(self._forgiving, "Leave", **ids)
            if not network.internal:
                gateway, gateway6 = joined.address("Gateway", 4), joined.address("GatewayIPv6", 6)
                endpoint = replace(endpoint, gateway=str(gateway or ""), gateway6=str(gateway6 or ""))
            # None is named where the plugin put it into the sandbox itself.
            endpoint = replace(endpoint, host_interface=joined.part("InterfaceName").device("SrcName"))
            routes = list(_routes(joined))
            if endpoint.host_interface:
                undo.callback(self._move_back, endpoint)
                self._move(endpoint, endpoint.host_interface, routes)
            undo.pop_all()
        return endpoint

    def _move(self, endpoint: Endpoint, source: str, routes: Sequence[_Route]) -> None:
        """Take the interface that the plugin made into the sandbox; `routes` lead over it."""
        link = self._netlink.link(source)
        if link is None:
            raise errdefs.Internal(f"plugin {self.name} names interface {source}, which is not there")
        with self._namespaces.opened(endpoint.sandbox_id) as netns_fd, self._namespaces.netlink(netns_fd) as inner:
            self._netlink.transact([netlink.move_link(link.index, netns_fd, endpoint.interface)])
            # The MAC address may be the plugin's choice; it is set where it was ours.
            if endpoint.mac and endpoint.mac != link.mac:
                inner.transact([netlink.set_link(name=endpoint.interface, mac=endpoint.mac)])
            interfaces.configure(self._namespaces, netns_fd, inner, endpoint)
            inside = inner.link(endpoint.interface)
            if routes and inside is not None:
                inner.transact([_added(route, inside.index) for route in routes])

    def _forgiving(self, method: str, **ids: str) -> None:
        """What ends something on the plugin's side: its failure must not stop ours from ending."""
        try:
            self._plugin.call(method, **ids)
        except errdefs.Error as error:
            log.warning("network plugin %s: %s", self.name, error)

    def _move_back(self, endpoint: Endpoint) -> None:
        """Give the plugin its interface back, under its own name; gone already is no error."""
        with self._namespaces.opened(endpoint.sandbox_id) as netns_fd, self._namespaces.netlink(netns_fd) as inner:
            link = inner.link(endpoint.interface)
            if link is not None and endpoint.host_interface:
                down = netlink.set_link(index=link.index, up=False)
                home = netlink.move_link(link.index, self._namespaces.host_fd, endpoint.host_interface)
                inner.transact([down, home])

    def leave(self, network: Network, endpoint: Endpoint) -> None:
        self._move_back(endpoint)
        self.linger(endpoint)

    def ending(self, network: Network, endpoint: Endpoint) -> None:
        return

    def linger(self, endpoint: Endpoint) -> None:
        ids = {"NetworkID": endpoint.network_id, "EndpointID": endpoint.id}
        self._forgiving("Leave", **ids)
        self._forgiving("DeleteEndpoint", **ids)

    # --- ports

    def publish(self, network: Network, endpoint: Endpoint, bindings: Sequence[PortBinding]) -> Opened:
        """The plugin's business; what it does is not told, so only what was asked for can be shown."""
        if not bindings:
            return Opened()
        port_map = [
            {
                "Proto": _NUMBERS[binding.proto],
                "IP": endpoint.ip,
                "Port": binding.container_port,
                "HostIP": binding.host_ip,
                "HostPort": binding.host_port,
                "HostPortEnd": binding.host_port_end or binding.host_port,
            }
            for binding in bindings
        ]
        self._plugin.call(
            "ProgramExternalConnectivity",
            NetworkID=network.id,
            EndpointID=endpoint.id,
            Options={"com.docker.network.portmap": port_map},
        )
        fixed = [b for b in bindings if b.host_port and b.host_port_end <= b.host_port]
        return Opened(
            tuple(PublishedPort(b.container_port, b.proto, b.host_ip or "0.0.0.0", b.host_port) for b in fixed)
        )

    def unpublish(self, network: Network, endpoint: Endpoint) -> None:
        if endpoint.ports:
            self._forgiving("RevokeExternalConnectivity", NetworkID=network.id, EndpointID=endpoint.id)

    def renamed(self, endpoint: Endpoint) -> None:
        return

    # --- reconciliation

    def restore(self, networks: Sequence[Network], endpoints: Sequence[Endpoint]) -> set[SandboxID]:
        return set()

    def sweep(self) -> bool:
        return False


def _decided(endpoint: Endpoint, interface: Answer) -> Endpoint:
    """The endpoint with what the plugin decided of what was left to it; the rest is ours."""
    found: dict[str, Any] = {"host_interface": ""}
    mac = interface.mac("MacAddress")
    if mac:
        found["mac"] = mac
    for key, ip, prefix, version in (("Address", "ip", "prefix", 4), ("AddressIPv6", "ip6", "prefix6", 6)):
        given = interface.interface(key)
        if given is not None and not getattr(endpoint, ip):
            if given.version != version:
                raise errdefs.Internal(f"plugin {endpoint.driver} gives {given} as {key}")
            found[ip], found[prefix] = str(given.ip), given.network.prefixlen
    return replace(endpoint, **found)


def _routes(joined: Answer) -> Iterator[_Route]:
    """Destinations, and by whom they are reached: None for those on the link itself."""
    for route in joined.parts("StaticRoutes"):
        destination = route.interface("Destination")
        if destination is None:
            raise errdefs.Internal("plugin gives a static route without a destination")
        by_gateway = route.number("RouteType") == _BY_GATEWAY
        yield destination.network, route.address("NextHop", destination.version) if by_gateway else None


def _added(route: _Route, index: int) -> Request:
    destination, gateway = route
    return netlink.new_route(
        gateway=gateway.packed if gateway is not None else b"",
        oif=index,
        destination=destination.network_address.packed,
        prefix=destination.prefixlen,
        family=socket.AF_INET if destination.version == 4 else socket.AF_INET6,
    )
