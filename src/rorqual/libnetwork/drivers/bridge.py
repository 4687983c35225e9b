"""`bridge`: a Linux bridge on the host, a veth pair to each sandbox, published ports by nftables.

    host: rorqual0 (the gateway's address) -- veth<7 hex> ====== eth0 :sandbox

Every call is one or two netlink round trips; the slow one is removing a veth pair explicitly (20 ms, the kernel waits
for readers of the device list), so a pair is left to end with its namespace wherever that ends too, and `sweep` looks
afterwards whether it did.
"""

import errno
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address

from rorqual import errdefs
from rorqual.libnetwork import interfaces, networks
from rorqual.libnetwork.drivers.base import Opened
from rorqual.libnetwork.firewall import conntrack
from rorqual.libnetwork.firewall.elements import BridgeRules, Publication
from rorqual.libnetwork.firewall.keeper import Firewall
from rorqual.libnetwork.interfaces import LINK_LOCAL, mac_of
from rorqual.libnetwork.model import (
    ANY6,
    ControllerOptions,
    Endpoint,
    Network,
    NetworkID,
    PortBinding,
    Proto,
    PublishedPort,
    SandboxID,
)
from rorqual.libnetwork.netns import NamespaceDir
from rorqual.libnetwork.ports import Address, PortAllocator, PortUnavailable, ipv6_can_listen
from rorqual.libnetwork.proxied import PortProxies, Process, Proxied, proxied
from rorqual.linux import netlink
from rorqual.linux.netlink import Link, Request, RtNetlink

log = logging.getLogger(__name__)

_GONE = frozenset({errno.ENODEV})
_LINGER_S = 2.0
INHIBIT_IPV4 = "com.docker.network.bridge.inhibit_ipv4"


def rules_of(network: Network) -> BridgeRules:
    return BridgeRules(
        network.interface,
        network.subnet,
        network.icc,
        network.ip_masq,
        network.closed,
        network.subnet6,
        network.gateway_mode,
        network.gateway_mode6,
        rooted=_has_address(network),
        rooted6=network.gateway_mode6 != "isolated",
    )


class BridgeDriver:
    """All bridge networks of an engine."""

    name = "bridge"
    addressed = True

    def __init__(
        self, options: ControllerOptions, namespaces: NamespaceDir, firewall: Firewall, process: Process
    ) -> None:
        """`process` serves the ports that the kernel cannot."""
        self._options = options
        self._namespaces = namespaces
        self._firewall = firewall
        self._netlink = RtNetlink()
        self._ports = PortAllocator(options.port_range)
        self._process = process
        self.proxies = PortProxies(process, self._ports)
        self._proxy = options.userland_proxy and ipv6_can_listen()
        self._obey = options.input_policy == "obey"
        self._bridges: dict[str, int] = {}  # device name -> ifindex
        self._lingering: dict[str, float] = {}  # host interface -> when its sandbox ended (monotonic)
        self._restored = False
        self.other_rules: Sequence[BridgeRules] = ()  # what `restore` writes into the table besides its own

    def close(self) -> None:
        self._ports.close()
        self._netlink.close()

    # --- networks

    def shape(self, network: Network) -> Network:
        return self._placed(networks.user_bridge(network, self._options))

    def _placed(self, shaped: Network) -> Network:
        """Raises errdefs.PermissionDenied when another network has its bridge."""
        if shaped.interface in self._bridges:
            raise errdefs.PermissionDenied(
                f"cannot create network {shaped.id} ({shaped.interface}): conflicts with an existing network: "
                "networks have same bridge name"
            )
        return replace(shaped, found=self._netlink.link(shaped.interface) is not None)

    def bring_up(self, network: Network) -> None:
        name = network.interface
        link = self._netlink.link(name)
        found = link is not None
        if link is None:
            mac = mac_of(network.gateway or network.gateway6 or LINK_LOCAL)
            self._netlink.transact([netlink.new_bridge(name, mac=mac, mtu=network.mtu)])
            link = self._netlink.link(name)
        if link is None or link.kind != "bridge":
            raise errdefs.Conflict(f"interface {name} exists and is not a bridge")
        self._bridges[name] = link.index
        self._sysctls(network)
        requests = [] if link.up else [netlink.set_link(index=link.index, up=True)]
        requests += self._addresses(network, link.index if found else 0, link.index)
        if not network.icc and _bridged_is_filtered():
            requests.append(netlink.filter_bridged(link.index))
        self._netlink.transact(requests)
        if self._restored:  # before, the whole table is yet to be written, by restore
            self._firewall.add_bridge(rules_of(network))

    def _addresses(self, network: Network, looked_at: int, index: int) -> list[Request]:
        """What makes the bridge's addresses those of the network; those it has are looked at where it was found."""
        requests: list[Request] = []
        gateway, subnet = network.gateway, network.subnet
        if gateway is not None and subnet is not None and _has_address(network):
            present = self._netlink.addresses() if looked_at else []
            have = {a.address: a.prefix for a in present if a.index == looked_at}
            if have.get(gateway.packed) != subnet.prefixlen:
                # What it has is of another subnet: --bip was changed.
                requests += [netlink.del_address(index, address, prefix) for address, prefix in have.items()]
                broadcast = subnet.broadcast_address.packed
                requests.append(netlink.new_address(index, gateway.packed, subnet.prefixlen, broadcast=broadcast))
        gateway6, subnet6 = network.gateway6, network.subnet6
        if gateway6 is not None and subnet6 is not None and network.gateway_mode6 != "isolated":
            requests.append(netlink.new_address(index, gateway6.packed, subnet6.prefixlen))
            if gateway6 != LINK_LOCAL:
                requests.append(netlink.new_address(index, LINK_LOCAL.packed, 64))
        return requests

    def _sysctls(self, network: Network) -> None:
        bridge = network.interface
        if self._options.ip_forward:
            _sysctl("/proc/sys/net/ipv4/ip_forward", "1")
        # Lets 127.0.0.1 clients out to the containers and their answers in; what else it would let in from containers
        # is dropped in raw-prerouting.
        _sysctl(f"/proc/sys/net/ipv4/conf/{bridge}/route_localnet", "1")
        _sysctl(f"/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6", "0" if network.subnet6 is not None else "1")
        if network.subnet6 is not None:
            # The bridge is the router of its link: it listens to no other's advertisements.
            _sysctl(f"/proc/sys/net/ipv6/conf/{bridge}/accept_ra", "0")
            if self._options.ip_forward:
                _sysctl("/proc/sys/net/ipv6/conf/all/forwarding", "1")

    def take_down(self, network: Network) -> None:
        self._firewall.remove_bridge(network.interface)
        self._bridges.pop(network.interface, None)
        if not network.found:
            self._netlink.transact([netlink.del_link(network.interface, ignore=_GONE)])

    # --- endpoints

    def join(self, network: Network, endpoint: Endpoint) -> Endpoint:
        master = self._bridges.get(network.interface, 0)
        with self._namespaces.opened(endpoint.sandbox_id) as netns_fd, self._namespaces.netlink(netns_fd) as inner:
            pair = netlink.new_veth(
                endpoint.host_interface,
                master=master,
                mtu=network.mtu,
                peer=endpoint.interface,
                peer_mac=endpoint.mac,
                peer_netns_fd=netns_fd,
            )
            port = _port(network, endpoint.host_interface)
            try:
                self._netlink.transact([pair, port])
            except OSError as error:
                if error.errno not in (errno.ENODEV, errno.EINVAL) or self._netlink.link(network.interface):
                    raise
                # Someone removed the bridge under us: make it again, once.
                log.warning("bridge %s is gone, making it again", network.interface)
                self.bring_up(network)
                return self.join(network, endpoint)
            try:
                interfaces.configure(self._namespaces, netns_fd, inner, endpoint, accept_ra=False)
            except BaseException:
                self._netlink.transact([netlink.del_link(endpoint.host_interface, ignore=_GONE)])
                raise
        return endpoint

    def leave(self, network: Network, endpoint: Endpoint) -> None:
        self._netlink.transact([netlink.del_link(endpoint.host_interface, ignore=_GONE)])

    # --- ports

    def publish(self, network: Network, endpoint: Endpoint, bindings: Sequence[PortBinding]) -> Opened:
        """Raises ports.PortUnavailable for a port that is taken, errdefs.InvalidArgument."""
        ports: list[PublishedPort] = []
        routed: dict[tuple[int, Proto], None] = {}
        try:
            for binding in bindings:
                if self._obey and binding.proto == "sctp":
                    raise errdefs.InvalidArgument("sctp ports cannot be published with input-policy obey")
                addresses, opens = self._addresses_of(binding, network, endpoint)
                if addresses:
                    ports += self._ports.allocate(binding, addresses, endpoint.name or endpoint.sandbox_id[:12])
                if opens:
                    routed[binding.container_port, binding.proto] = None
            self._firewall.publish(self._publications(network, endpoint, ports, tuple(routed)))
        except BaseException:
            for port in ports:
                self._ports.release(port)
            raise
        self._forget_flows(ports)
        self.proxies.put(self._proxied(endpoint, ports))
        return Opened(tuple(ports), tuple(routed))

    def _addresses_of(self, binding: PortBinding, network: Network, endpoint: Endpoint) -> tuple[list[Address], bool]:
        """On which of the host's addresses the binding is published, and whether it is opened without rewriting."""
        if network.closed:
            return [], False
        four = endpoint.ip != "" and network.gateway_mode != "isolated"
        six = endpoint.ip6 != ""
        # Clients by the IP version that the container lacks are served by the process, like those by the other.
        serves = self._proxy and binding.proto != "sctp"
        served, served4 = serves and four and not six, serves and six and endpoint.ip == ""
        four, six = four or served4, six or served
        wanted: list[Address]
        if binding.host_ip:
            try:
                wanted = [ip_address(binding.host_ip)]
            except ValueError as error:
                raise errdefs.InvalidArgument(f"invalid IP address in port binding: {binding.host_ip}") from error
            if wanted[0].version == 6 and wanted[0].is_loopback and not self._proxy:
                raise errdefs.InvalidArgument(
                    f"cannot publish on {wanted[0]}: the kernel does not route it; use 127.0.0.1"
                )
            if not (four if wanted[0].version == 4 else six):
                if wanted[0] == ANY6 and four:
                    # Clients ask for both families whatever the network has; the other one is published.
                    log.warning(
                        "network %s has no IPv6: port %d is not published on ::", network.name, binding.host_port
                    )
                    return [], False
                raise PortUnavailable(
                    f"cannot publish on {wanted[0]}: network {network.name} has no IPv{wanted[0].version}"
                )
        else:
            default = ip_address(network.binding or str(self._options.default_bind_address))
            wanted = [default] if (four if default.version == 4 else six) else []
            binding6 = "" if served else network.binding6
            if six and (binding6 or default.version == 6 or default.is_unspecified):
                wanted = [*(a for a in wanted if a.version == 4), ip_address(binding6 or "::")]
        modes = {
            4: network.gateway_mode6 if served4 else network.gateway_mode,
            6: network.gateway_mode if served else network.gateway_mode6,
        }
        natted = [address for address in wanted if modes[address.version] in ("nat", "nat-unprotected")]
        return natted, any(modes[address.version] == "routed" for address in wanted)

    def _proxied(self, endpoint: Endpoint, ports: Sequence[PublishedPort]) -> list[Proxied]:
        """Those of the endpoint's ports that the process serves."""
        return proxied(ports, _own(endpoint), everything=self._obey) if self._proxy or self._obey else []

    def _publications(
        self,
        network: Network,
        endpoint: Endpoint,
        ports: Sequence[PublishedPort],
        routed: Sequence[tuple[int, Proto]],
    ) -> list[Publication]:
        """What the kernel has to know of these ports."""
        own = _own(endpoint)
        found = []
        for port in () if self._obey else ports:
            address = ip_address(port.host_ip)
            if address.version in own and not (address.version == 6 and address.is_loopback):
                target = own[address.version]
                found.append(
                    Publication(port.proto, address, port.host_port, target, port.container_port, loopback6=self._proxy)
                )
        for version, mode in ((4, network.gateway_mode), (6, network.gateway_mode6)):
            if mode == "routed" and version in own:
                found += [Publication(proto, own[version], 0, own[version], number) for number, proto in routed]
        return found

    def unpublish(self, network: Network, endpoint: Endpoint) -> None:
        self._firewall.unpublish(self._publications(network, endpoint, endpoint.ports, endpoint.routed_ports))
        self.proxies.drop(self._proxied(endpoint, endpoint.ports))
        for port in endpoint.ports:
            self._ports.release(port)
        self._forget_flows(endpoint.ports)

    def renamed(self, endpoint: Endpoint) -> None:
        for port in endpoint.ports:
            self._ports.rename(port, endpoint.name)

    @staticmethod
    def _forget_flows(ports: Sequence[PublishedPort]) -> None:
        """A UDP client that goes on sending keeps its flow, and with it the rewriting to a container that is gone (or
        none, from before the port was published); TCP clients get a reset and begin anew."""
        udp = frozenset(port.host_port for port in ports if port.proto == "udp")
        if udp:
            conntrack.forget_udp(udp)

    # --- reconciliation

    def restore(self, networks: Sequence[Network], endpoints: Sequence[Endpoint]) -> set[SandboxID]:
        wanted_proxies: list[Proxied] = []
        by_id = {network.id: network for network in networks}
        for endpoint in endpoints:
            served = self._proxied(endpoint, endpoint.ports)
            theirs = {one.port for one in served if one.key in self._process.known_ports}
            for port in endpoint.ports:
                self._ports.restore(port, endpoint.name or endpoint.sandbox_id[:12], served=port in theirs)
            wanted_proxies += served
        publications = [
            publication
            for endpoint in endpoints
            for publication in self._publications(
                by_id[endpoint.network_id], endpoint, endpoint.ports, endpoint.routed_ports
            )
        ]
        self._firewall.replace([*map(rules_of, networks), *self.other_rules], publications)
        self._restored = True
        self.proxies.restore(wanted_proxies)
        return self._adopt(by_id, endpoints)

    def _adopt(self, networks: Mapping[NetworkID, Network], endpoints: Sequence[Endpoint]) -> set[SandboxID]:
        """The part of `restore` that is interfaces: missing ones are made again, those of nobody are swept."""
        joined: set[SandboxID] = set()
        links = {link.name: link for link in self._netlink.links()}
        for endpoint in endpoints:
            try:
                if self._repair(networks[endpoint.network_id], endpoint, links.get(endpoint.host_interface)):
                    joined.add(endpoint.sandbox_id)
            except OSError as error:  # one broken container must not keep the others from their ports
                log.error("cannot repair the network of sandbox %s: %s", endpoint.sandbox_id, error)
        wanted = {endpoint.host_interface for endpoint in endpoints}
        ours = set(self._bridges.values())
        for link in links.values():
            if link.kind == "veth" and link.master in ours and link.name not in wanted and link.name.startswith("veth"):
                # Most of them are on their way out with the namespaces that were just removed; sweep takes the rest.
                self._lingering[link.name] = 0.0
        return joined

    def _repair(self, network: Network, endpoint: Endpoint, link: Link | None) -> bool:
        """Whether the interface had to be made again."""
        if link is None:
            log.warning(
                "container interface %s of %s is gone, making it again", endpoint.interface, endpoint.sandbox_id
            )
            self.join(network, endpoint)
            return True
        if link.master != self._bridges.get(network.interface, 0) or not link.up:
            # The bridge was made anew; a port's flags went with the old one.
            self._netlink.transact(
                [
                    netlink.set_link(index=link.index, up=True, master=self._bridges.get(network.interface, 0)),
                    _port(network, link.name),
                ]
            )
        return False

    def ending(self, network: Network, endpoint: Endpoint) -> None:
        return

    def linger(self, endpoint: Endpoint) -> None:
        """The endpoint's namespace was removed: its pair should end with it, which `sweep` will see to."""
        self._lingering[endpoint.host_interface] = time.monotonic()

    def sweep(self) -> bool:
        if not self._lingering:
            return False
        present = {link.name for link in self._netlink.links()}
        now = time.monotonic()
        for name, since in list(self._lingering.items()):
            if name not in present:
                del self._lingering[name]
            elif now - since > _LINGER_S:
                self._netlink.transact([netlink.del_link(name, ignore=_GONE)])
                del self._lingering[name]
        return bool(self._lingering)


def _bridged_is_filtered() -> bool:
    return os.path.exists("/proc/sys/net/bridge/bridge-nf-call-iptables")


def _port(network: Network, name: str) -> Request:
    """The flags of a network's bridge port. Hairpin: br_netfilter turns a container's call to its own published port
    round within the bridge. Isolated: without br_netfilter no filter sees what passes between ports, so the bridge
    itself keeps them apart; with it `to-container` does, and lets published ports through, which the flag would not."""
    return netlink.set_bridge_port(name, hairpin=True, isolated=not network.icc and not _bridged_is_filtered())


def _has_address(network: Network) -> bool:
    """Whether the bridge itself has an IPv4 address on the network."""
    return network.gateway_mode != "isolated" and network.options.get(INHIBIT_IPV4, "").lower() not in ("1", "true")


def _own(endpoint: Endpoint) -> dict[int, Address]:
    """Its addresses by IP version."""
    return {address.version: address for address in map(ip_address, filter(None, (endpoint.ip, endpoint.ip6)))}


def _sysctl(path: str, value: str) -> None:
    """Set it where it differs. One that cannot be set is said in the log: containers work without, some traffic not."""
    try:
        with open(path, encoding="ascii") as file:
            if file.read().strip() == value:
                return
        with open(path, "w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        log.warning("cannot set %s to %s: %s", path, value, error)
