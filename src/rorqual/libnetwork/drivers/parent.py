"""What macvlan and ipvlan share: sandboxes' interfaces stand on a device of the host, the network's parent, and are
reached past the host's own stack: no ports are published, no rules apply, the host itself cannot reach them.

    machine's network -- parent (eth0, or eth0.10: 802.1q, made when missing) ==== eth0 :sandbox

Without a parent (`--internal`, or none named) the network is a closed one between its containers, on a cable of ours
that leads nowhere (Docker takes a dummy device; a veth pair is what every kernel has).
"""

import errno
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from rorqual import errdefs
from rorqual.libnetwork import interfaces, networks
from rorqual.libnetwork.drivers.base import Opened
from rorqual.libnetwork.interfaces import mac_of
from rorqual.libnetwork.model import ControllerOptions, Endpoint, Network, PortBinding, SandboxID, check_interface_name
from rorqual.libnetwork.netns import NamespaceDir
from rorqual.linux import netlink
from rorqual.linux.netlink import Link, RtNetlink

log = logging.getLogger(__name__)

_GONE = frozenset({errno.ENODEV})


class ParentDriver:
    """All networks of one kind of device. Subclasses say which, and what its modes are."""

    name = ""
    addressed = True
    mode_option = ""
    other_options: tuple[str, ...] = ()
    own_mac = True  # whether its devices have a MAC address that is not the parent's

    def __init__(self, options: ControllerOptions, namespaces: NamespaceDir) -> None:
        self._options = options
        self._namespaces = namespaces
        self._netlink = RtNetlink()

    def close(self) -> None:
        self._netlink.close()

    # --- what a kind is

    def check_mode(self, network: Network) -> None:
        """Raises errdefs.InvalidArgument for a mode that there is none of."""
        raise NotImplementedError

    def device_data(self, network: Network) -> bytes:
        """The attributes of a device of the network's mode."""
        raise NotImplementedError

    # --- networks

    def shape(self, network: Network) -> Network:
        self.check_mode(network)
        self._check_kernel()
        for option in network.options:
            if option not in ("parent", self.mode_option, networks.MTU, *self.other_options):
                raise errdefs.InvalidArgument(f"invalid network driver option {option} for {self.name}")
        parent = network.options.get("parent", "")
        mtu = networks.mtu_of(network.options, 0)
        if network.internal or not parent:
            if parent and network.internal:
                raise errdefs.InvalidArgument(f"an internal {self.name} network has no parent: {parent}")
            return replace(network, interface=f"dm-{network.id[:12]}", mtu=mtu, internal=True)
        check_interface_name(parent)
        base, dot, tag = parent.rpartition(".")
        link = self._netlink.link(parent)
        if link is None and dot and tag.isdecimal() and self._netlink.link(base) is not None:
            if not 0 < int(tag) < 4095:
                raise errdefs.InvalidArgument(f"vlan id must be between 1-4094, received: {tag}")
        elif link is None:
            raise errdefs.InvalidArgument(f"invalid subinterface vlan name {parent}, example formatting is eth0.10")
        return replace(network, interface=parent, mtu=mtu, found=link is not None)

    def _check_kernel(self) -> None:
        """Raises errdefs.NotImplementedHere where the kernel has no such devices: it says so before it looks at the
        parent, which is none here."""
        no_parent = netlink.new_slave(self.name, "probe", parent=0, netns_fd=self._namespaces.host_fd)
        with self._explained(f"{self.name} interfaces"):
            try:
                self._netlink.transact([no_parent])
            except OSError as error:
                if error.errno == errno.EOPNOTSUPP:
                    raise

    def bring_up(self, network: Network) -> None:
        name = network.interface
        link = self._netlink.link(name)
        if link is None and network.internal:
            mac = mac_of(network.gateway or network.gateway6 or interfaces.LINK_LOCAL)
            end = f"dp-{network.id[:12]}"
            here = self._namespaces.host_fd
            cable = netlink.new_veth(name, master=0, mtu=network.mtu, peer=end, peer_mac=mac, peer_netns_fd=here)
            self._netlink.transact([cable, netlink.set_link(name=end, up=True)])
            return
        if link is None:
            base, dot, tag = name.rpartition(".")
            below = self._netlink.link(base) if dot and tag.isdecimal() else None
            if below is None:
                # Its machine's device may come back; containers on it cannot start until then.
                log.error("parent interface %s of network %s is gone", name, network.name)
                return
            with self._explained("802.1q sub-interfaces"):
                self._netlink.transact([netlink.new_vlan(name, parent=below.index, vlan=int(tag))])
        elif not link.up and not network.found:
            self._netlink.transact([netlink.set_link(index=link.index, up=True)])

    def take_down(self, network: Network) -> None:
        if not network.found:
            self._netlink.transact([netlink.del_link(network.interface, ignore=_GONE)])

    # --- endpoints

    def join(self, network: Network, endpoint: Endpoint) -> Endpoint:
        parent = self._netlink.link(network.interface)
        if parent is None:
            raise errdefs.Internal(f"failed to create the {self.name} port: parent {network.interface} is gone")
        endpoint = self.as_joined(endpoint, parent)
        with self._namespaces.opened(endpoint.sandbox_id) as netns_fd, self._namespaces.netlink(netns_fd) as inner:
            device = netlink.new_slave(
                self.name,
                endpoint.interface,
                parent=parent.index,
                netns_fd=netns_fd,
                mac=endpoint.mac if self.own_mac else "",
                mtu=network.mtu,
                data=self.device_data(network),
            )
            with self._explained(f"{self.name} interfaces"):
                self._netlink.transact([device])
            try:
                interfaces.configure(self._namespaces, netns_fd, inner, endpoint)
            except BaseException:
                inner.transact([netlink.del_link(endpoint.interface, ignore=_GONE)])
                raise
        return endpoint

    def as_joined(self, endpoint: Endpoint, parent: Link) -> Endpoint:
        """The endpoint on this parent."""
        return replace(endpoint, host_interface="")

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Turns the kernel's refusals into ones that say what it lacks, or what stands in the way."""
        try:
            yield
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                raise errdefs.NotImplementedHere(f"this kernel has no {what} (module not there)") from error
            if error.errno == errno.EBUSY:
                raise errdefs.Conflict(
                    f"the parent is in use in another way, it cannot have {what}: {error}"
                ) from error
            raise

    def leave(self, network: Network, endpoint: Endpoint) -> None:
        with self._namespaces.opened(endpoint.sandbox_id) as netns_fd, self._namespaces.netlink(netns_fd) as inner:
            inner.transact([netlink.del_link(endpoint.interface, ignore=_GONE)])

    # --- ports: there are none

    def publish(self, network: Network, endpoint: Endpoint, bindings: Sequence[PortBinding]) -> Opened:
        """Containers are on the machine's network themselves: all their ports are there already."""
        return Opened()

    def unpublish(self, network: Network, endpoint: Endpoint) -> None:
        return

    def renamed(self, endpoint: Endpoint) -> None:
        return

    # --- reconciliation

    def restore(self, networks_: Sequence[Network], endpoints: Sequence[Endpoint]) -> set[SandboxID]:
        by_id = {network.id: network for network in networks_}
        joined: set[SandboxID] = set()
        for endpoint in endpoints:
            try:
                if not self._present(endpoint):
                    log.warning("interface %s of %s is gone, making it again", endpoint.interface, endpoint.sandbox_id)
                    self.join(by_id[endpoint.network_id], endpoint)
                    joined.add(endpoint.sandbox_id)
            except (OSError, errdefs.Error) as error:  # one broken container must not keep the others from starting
                log.error("cannot repair the network of sandbox %s: %s", endpoint.sandbox_id, error)
        return joined

    def _present(self, endpoint: Endpoint) -> bool:
        with self._namespaces.opened(endpoint.sandbox_id) as netns_fd, self._namespaces.netlink(netns_fd) as inner:
            return inner.link(endpoint.interface) is not None

    def ending(self, network: Network, endpoint: Endpoint) -> None:
        """Its MAC address is the parent's to give again at once: a container that is restarted has the same."""
        try:
            self.leave(network, endpoint)
        except FileNotFoundError:
            return  # the namespace is gone already

    def linger(self, endpoint: Endpoint) -> None:
        return  # its interface ends with the namespace

    def sweep(self) -> bool:
        return False
