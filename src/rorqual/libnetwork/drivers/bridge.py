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
from collections.abc import Sequence
from ipaddress import IPv4Address

from rorqual import errdefs
from rorqual.libnetwork.firewall import conntrack
from rorqual.libnetwork.firewall.keeper import Firewall
from rorqual.libnetwork.firewall.ruleset import BridgeRules, Publication
from rorqual.libnetwork.model import ControllerOptions, Endpoint, Network, PortBinding, PublishedPort
from rorqual.libnetwork.netns import NamespaceDir
from rorqual.libnetwork.ports import PortAllocator
from rorqual.linux import netlink
from rorqual.linux.netlink import Link, Request, RtNetlink

log = logging.getLogger(__name__)

_GONE = frozenset({errno.ENODEV})
_LINGER_S = 2.0


def mac_of(address: IPv4Address) -> str:
    """The MAC address Docker gives to an IPv4 address: locally administered, the same for the same address always, so
    that neighbour tables stay right when the address is used again."""
    return netlink.mac_text(b"\x02\x42" + address.packed)


def rules_of(network: Network) -> BridgeRules:
    assert network.subnet is not None
    return BridgeRules(network.interface, network.subnet, network.icc, network.ip_masq, network.internal)


class BridgeDriver:
    """All bridge networks of an engine."""

    name = "bridge"
    addressed = True

    def __init__(self, options: ControllerOptions, namespaces: NamespaceDir, firewall: Firewall) -> None:
        self._options = options
        self._namespaces = namespaces
        self._firewall = firewall
        self._netlink = RtNetlink()
        self._ports = PortAllocator(options.port_range)
        self._bridges: dict[str, int] = {}  # device name -> ifindex
        self._lingering: dict[str, float] = {}  # host interface -> when its sandbox ended (monotonic)
        self._restored = False

    def close(self) -> None:
        self._ports.close()
        self._netlink.close()

    # --- networks

    def bring_up(self, network: Network) -> None:
        assert network.subnet is not None and network.gateway is not None
        name, gateway = network.interface, network.gateway
        link = self._netlink.link(name)
        if link is None:
            self._netlink.transact([netlink.new_bridge(name, mac=mac_of(gateway), mtu=network.mtu)])
            link = self._netlink.link(name)
        if link is None or link.kind != "bridge":
            raise errdefs.Conflict(f"interface {name} exists and is not a bridge")
        self._bridges[name] = link.index
        have = {a.address: a.prefix for a in self._netlink.addresses() if a.index == link.index}
        requests = [] if link.up else [netlink.set_link(index=link.index, up=True)]
        if have.get(gateway.packed) != network.subnet.prefixlen:
            # What it has is of another subnet: --bip was changed.
            requests += [netlink.del_address(link.index, address, prefix) for address, prefix in have.items()]
            broadcast = network.subnet.broadcast_address.packed
            requests.append(
                netlink.new_address(link.index, gateway.packed, network.subnet.prefixlen, broadcast=broadcast)
            )
        if not network.icc and _bridged_is_filtered():
            requests.append(netlink.filter_bridged(link.index))
        self._netlink.transact(requests)
        self._sysctls(name)
        if self._restored:  # before, the whole table is yet to be written, by restore
            self._firewall.add_bridge(rules_of(network))

    def _sysctls(self, bridge: str) -> None:
        if self._options.ip_forward:
            _sysctl("/proc/sys/net/ipv4/ip_forward", "1")
        # Lets 127.0.0.1 clients out to the containers and their answers in; what else it would let in from containers
        # is dropped in raw-prerouting.
        _sysctl(f"/proc/sys/net/ipv4/conf/{bridge}/route_localnet", "1")
        if not self._options.ipv6:
            _sysctl(f"/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6", "1")

    def take_down(self, network: Network) -> None:
        self._firewall.remove_bridge(network.interface)
        self._bridges.pop(network.interface, None)
        self._netlink.transact([netlink.del_link(network.interface, ignore=_GONE)])

    # --- endpoints

    def join(self, network: Network, endpoint: Endpoint, default_route: bool) -> None:
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
                self.join(network, endpoint, default_route)
                return
            try:
                self._address(inner, endpoint, default_route)
            except BaseException:
                self._netlink.transact([netlink.del_link(endpoint.host_interface, ignore=_GONE)])
                raise

    @staticmethod
    def _address(inner: RtNetlink, endpoint: Endpoint, default_route: bool) -> None:
        link = inner.link(endpoint.interface)
        if link is None:
            raise errdefs.Internal(f"interface {endpoint.interface} did not appear in sandbox {endpoint.sandbox_id}")
        address = IPv4Address(endpoint.ip)
        requests = [
            netlink.set_link(index=link.index, up=True),
            netlink.new_address(link.index, address.packed, endpoint.prefix, broadcast=_broadcast(endpoint)),
        ]
        if default_route and endpoint.gateway:
            requests.append(netlink.new_route(gateway=IPv4Address(endpoint.gateway).packed))
        inner.transact(requests)

    def leave(self, network: Network, endpoint: Endpoint) -> None:
        self._netlink.transact([netlink.del_link(endpoint.host_interface, ignore=_GONE)])

    # --- ports

    def publish(
        self, network: Network, endpoint: Endpoint, bindings: Sequence[PortBinding]
    ) -> tuple[PublishedPort, ...]:
        """Raises ports.PortUnavailable for a port that is taken."""
        ports: list[PublishedPort] = []
        try:
            # extend keeps those that were had before one failed
            ports.extend(self._ports.allocate(binding, self._options.default_bind_address) for binding in bindings)
            publications = _publications(endpoint, ports)
            self._firewall.publish(publications)
        except BaseException:
            for port in ports:
                self._ports.release(port)
            raise
        self._forget_flows(ports)
        return tuple(ports)

    def unpublish(self, network: Network, endpoint: Endpoint) -> None:
        self._firewall.unpublish(_publications(endpoint, endpoint.ports))
        for port in endpoint.ports:
            self._ports.release(port)
        self._forget_flows(endpoint.ports)

    @staticmethod
    def _forget_flows(ports: Sequence[PublishedPort]) -> None:
        """A UDP client that goes on sending keeps its flow, and with it the rewriting to a container that is gone (or
        none, from before the port was published); TCP clients get a reset and begin anew."""
        udp = frozenset(port.host_port for port in ports if port.proto == "udp")
        if udp:
            conntrack.forget_udp(udp)

    # --- reconciliation

    def restore(self, networks: Sequence[Network], endpoints: Sequence[Endpoint]) -> None:
        by_id = {network.id: network for network in networks}
        links = {link.name: link for link in self._netlink.links()}
        for endpoint in endpoints:
            try:
                self._repair(by_id[endpoint.network_id], endpoint, links.get(endpoint.host_interface))
            except OSError as error:  # one broken container must not keep the others from their ports
                log.error("cannot repair the network of sandbox %s: %s", endpoint.sandbox_id, error)
            for port in endpoint.ports:
                self._ports.restore(port)
        publications = [p for endpoint in endpoints for p in _publications(endpoint, endpoint.ports)]
        self._firewall.replace([rules_of(network) for network in networks], publications)
        self._restored = True
        wanted = {endpoint.host_interface for endpoint in endpoints}
        ours = set(self._bridges.values())
        for link in links.values():
            if link.kind == "veth" and link.master in ours and link.name not in wanted and link.name.startswith("veth"):
                # Most of them are on their way out with the namespaces that were just removed; sweep takes the rest.
                self._lingering[link.name] = 0.0

    def _repair(self, network: Network, endpoint: Endpoint, link: Link | None) -> None:
        if link is None:
            log.warning(
                "container interface %s of %s is gone, making it again", endpoint.interface, endpoint.sandbox_id
            )
            self.join(network, endpoint, default_route=True)
        elif link.master != self._bridges[network.interface] or not link.up:
            # The bridge was made anew; a port's flags went with the old one.
            self._netlink.transact(
                [
                    netlink.set_link(index=link.index, up=True, master=self._bridges[network.interface]),
                    _port(network, link.name),
                ]
            )

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


def _publications(endpoint: Endpoint, ports: Sequence[PublishedPort]) -> list[Publication]:
    target = IPv4Address(endpoint.ip)
    return [Publication(p.proto, IPv4Address(p.host_ip), p.host_port, target, p.container_port) for p in ports]


def _broadcast(endpoint: Endpoint) -> bytes:
    host_bits = (1 << (32 - endpoint.prefix)) - 1
    return IPv4Address(int(IPv4Address(endpoint.ip)) | host_bits).packed


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
