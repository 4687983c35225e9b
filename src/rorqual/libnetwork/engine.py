"""The state of an engine's sandboxes and endpoints, and every change of it. For the controller's threads, one at a
time: the one that has the `baton`. Memory is the truth while it runs; a change is made in the kernel first, then
committed to the store, then answered. A process killed between the two leaves kernel objects without a row, which the
next `start` removes."""

import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from ipaddress import ip_address

from rorqual import errdefs
from rorqual.libnetwork import endpoints, files, interfaces, publishing
from rorqual.libnetwork.baton import Baton
from rorqual.libnetwork.dns.client import Names, Resolver, SandboxView, Wanted
from rorqual.libnetwork.drivers.base import Driver
from rorqual.libnetwork.drivers.bridge import BridgeDriver
from rorqual.libnetwork.drivers.host import HostDriver
from rorqual.libnetwork.drivers.ipvlan import IpvlanDriver
from rorqual.libnetwork.drivers.macvlan import MacvlanDriver
from rorqual.libnetwork.drivers.null import NullDriver
from rorqual.libnetwork.drivers.overlay import OverlayDriver
from rorqual.libnetwork.drivers.remote import RemoteDriver
from rorqual.libnetwork.entry import Entry
from rorqual.libnetwork.firewall.elements import Source
from rorqual.libnetwork.firewall.keeper import Firewall
from rorqual.libnetwork.model import (
    ControllerOptions,
    Endpoint,
    EndpointConfig,
    Network,
    NetworkConfig,
    NetworkID,
    PortBinding,
    Sandbox,
    SandboxConfig,
    SandboxID,
)
from rorqual.libnetwork.netns import NamespaceDir
from rorqual.libnetwork.plugins import NetworkPlugin
from rorqual.libnetwork.publishing import Publisher
from rorqual.libnetwork.store import Store
from rorqual.libnetwork.table import NetworkTable
from rorqual.linux import netlink
from rorqual.linux.netlink import RtNetlink
from rorqual.linux.nftables import Generation

log = logging.getLogger(__name__)

_IDLE_SWEEPS = 10  # of some seconds each, so that a container's restart does not restart the resolver too


class Engine:
    """Constructed in a thread that `adopt_thread` was not called for, and used by that one and those it was called for,
    all in the network namespace that is the host's. `resolver_connected` is told the fd of each new connection to the
    resolver process, -1 when it is closed."""

    def __init__(
        self,
        store_path: str,
        exec_root: str,
        options: ControllerOptions,
        resolver_connected: Callable[[int], None] = lambda _fd: None,
    ) -> None:
        self.options = options
        self.baton = Baton()
        self.namespaces = NamespaceDir(f"{exec_root}/netns")
        self._store = Store(store_path)
        self._firewall = Firewall(options.table, options.user_chain)
        self._resolver = Resolver(exec_root, self.namespaces, self._wanted_names, resolver_connected)
        bridge = BridgeDriver(options, self.namespaces, self._firewall, self._resolver)
        overlay = OverlayDriver(options, self.namespaces, self._firewall, self._resolver, bridge)
        self._resolver.ports = bridge.proxies
        parents = (MacvlanDriver(options, self.namespaces), IpvlanDriver(options, self.namespaces))
        self._drivers: dict[str, Driver] = {d.name: d for d in (overlay, bridge, *parents, HostDriver(), NullDriver())}
        self._networks = NetworkTable(options, self._store, self._drivers, self._remote_driver, self._plugin)
        self._publisher = Publisher(self._networks)
        self._sandboxes: dict[SandboxID, Sandbox] = {}
        self._resolver_idle = 0

    def adopt_thread(self) -> None:
        """The calling thread will use this engine too."""
        self._firewall.adopt_thread()

    def _plugin(self, name: str, protocol: str) -> NetworkPlugin:
        return NetworkPlugin(name, protocol, self.baton)

    def _remote_driver(self, plugin: NetworkPlugin, known: frozenset[str]) -> Driver:
        return RemoteDriver(plugin, self.namespaces, known)

    # --- which plugins a change may wait for; any thread may ask, with or without the baton

    @property
    def plugged(self) -> bool:
        """Whether any network is a plugin's."""
        return any(entry.lane for entry in self._networks)

    def lanes(self, sandbox_id: SandboxID | None, network: str = "") -> set[str]:
        """The plugins that a change of this sandbox, or of this network, may wait for."""
        sandbox = self._sandboxes.get(sandbox_id) if sandbox_id is not None else None
        entries = [self._networks.get(e.network_id) for e in sandbox.endpoints] if sandbox is not None else []
        with suppress(errdefs.Error):  # the change itself will say so
            entries.append(self._networks.find(network))
        return {entry.lane for entry in entries if entry is not None and entry.lane}

    def lane_for(self, config: NetworkConfig) -> set[str]:
        """The plugin that making this network may wait for."""
        return {self._networks.lane_for(config)} - {""}

    # --- life

    def start(self, live: Collection[SandboxID]) -> None:
        """Load the store, keep what belongs to `live` sandboxes, remove everything else, and make the kernel's state
        what the store says."""
        self.namespaces.open()
        self._networks.load()
        self._load_sandboxes(frozenset(live))
        self._resolver.start()  # it may hold namespaces of sandboxes that are no more
        # First the namespaces (their ends of veth pairs go with them), then bridges, then what hangs on those.
        for name in self.namespaces.names():
            if name not in self._sandboxes:
                self.namespaces.remove(name)
        for entry in self._networks:
            self._bring_up(entry)
        endpoints = [e for sandbox in self._sandboxes.values() for e in sandbox.endpoints]
        for sandbox in self._sandboxes.values():
            self._let_in(sandbox, now=False)
        self._end_joining()
        for driver in self._drivers.values():
            its = [entry.spec for entry in self._networks if entry.driver is driver]
            ids = {network.id for network in its}
            for sandbox_id in driver.restore(its, [e for e in endpoints if e.network_id in ids]):
                self._route(self._sandboxes[sandbox_id])

    def _end_joining(self) -> None:
        """Remove the interfaces that a killed process made in sandboxes that live on, and wrote no endpoint for: their
        names and addresses will be given again."""
        for endpoint in self._store.joining():
            entry = self._networks.get(endpoint.network_id)
            if entry is not None and entry.lane:
                continue  # a plugin has to be told: see end_joining
            if entry is not None and endpoint.sandbox_id in self._sandboxes:
                try:
                    entry.driver.leave(entry.spec, endpoint)
                except OSError as error:
                    log.warning("cannot remove interface %s of %s: %s", endpoint.interface, endpoint.sandbox_id, error)
            self._store.delete_joining(endpoint.id)

    def end_joining(self, lane: str) -> None:
        """Tell a plugin of the endpoints that a killed process was about to make."""
        for endpoint in self._store.joining():
            entry = self._networks.get(endpoint.network_id)
            if entry is not None and entry.lane == lane:
                if endpoint.sandbox_id in self._sandboxes:
                    entry.driver.leave(entry.spec, endpoint)
                else:
                    entry.driver.linger(endpoint)
                self._store.delete_joining(endpoint.id)

    def unfinished(self) -> set[str]:
        """The plugins for which there is something to do for `end_joining`."""
        found = {endpoint.network_id for endpoint in self._store.joining()}
        return {entry.lane for entry in self._networks if entry.lane and entry.spec.id in found}

    @staticmethod
    def _bring_up(entry: Entry) -> None:
        """A user's network that cannot be is said in the log: the others' containers must not wait for it."""
        if entry.spec.config_only:
            return
        try:
            entry.driver.bring_up(entry.spec)
        except (OSError, errdefs.Error) as error:
            if entry.spec.predefined:
                raise
            log.error("network %s is not available: %s", entry.spec.name, error)

    def close(self) -> None:
        """End this process's part. Containers, their namespaces, names and ports go on."""
        self._resolver.close()
        for driver in self._drivers.values():
            driver.close()
        self._firewall.close()
        self._networks.close()
        self.namespaces.close()
        self._store.close()

    def purge(self) -> None:
        """Remove everything of this engine from the kernel: sandboxes (their processes lose their network), bridges,
        the table, the mounts. Networks stay in the store. `close` is all that may follow."""
        for sandbox_id in list(self._sandboxes):
            self.delete_sandbox(sandbox_id)
        self._resolver.retire()
        for entry in self._networks:
            if not entry.spec.config_only:
                entry.driver.take_down(entry.spec)
        self._firewall.remove()
        self.namespaces.remove_all()

    def _load_sandboxes(self, live: Collection[SandboxID]) -> None:
        configs = self._store.sandboxes()
        for sandbox_id in configs:
            if sandbox_id in live and not self.namespaces.exists(sandbox_id):
                log.warning("the namespace of sandbox %s is gone: it is forgotten", sandbox_id)
                self._store.delete_sandbox(sandbox_id)
            elif sandbox_id in live:
                path = self.namespaces.path_of(sandbox_id)
                self._sandboxes[sandbox_id] = Sandbox(sandbox_id, path, configs[sandbox_id])
            else:
                self._store.delete_sandbox(sandbox_id)
        for sandbox_id in live:
            if sandbox_id not in configs:
                log.warning("sandbox %s is live and unknown to network.db: it has no network of ours", sandbox_id)
        for endpoint in self._store.endpoints():
            entry, sandbox = self._networks.get(endpoint.network_id), self._sandboxes.get(endpoint.sandbox_id)
            if entry is None or sandbox is None:
                self._store.delete_endpoint(endpoint.id)
                continue
            entry.endpoints += 1
            entry.reserve(endpoint)
            if endpoint.ip and not entry.has(endpoint.ip):
                log.warning("%s keeps %s, outside of %s, until restarted", sandbox.id, endpoint.ip, entry.spec.name)
            self._sandboxes[sandbox.id] = replace(sandbox, endpoints=(*sandbox.endpoints, endpoint))

    # --- networks

    def create_network(self, config: NetworkConfig) -> Network:
        """Raises errdefs.Conflict when the name is taken, InvalidArgument, PermissionDenied for an overlap."""
        return self._networks.create(config)

    def remove_network(self, name_or_id: str) -> Network:
        """Raises errdefs.PermissionDenied for a predefined network or one with endpoints, NotFound."""
        entry = self._networks.find(name_or_id)
        return self._networks.remove(entry, self.endpoints(entry.spec.id))

    def networks(self) -> list[Network]:
        return [entry.spec for entry in self._networks]

    def network(self, name_or_id: str) -> Network:
        return self._networks.find(name_or_id).spec

    def endpoints(self, network_id: NetworkID) -> list[Endpoint]:
        return [e for s in self._sandboxes.values() for e in s.endpoints if e.network_id == network_id]

    # --- sandboxes

    def create_sandbox(self, sandbox_id: SandboxID, config: SandboxConfig) -> Sandbox:
        """Raises errdefs.AlreadyExists."""
        if sandbox_id in self._sandboxes:
            raise errdefs.AlreadyExists(f"sandbox {sandbox_id} already exists")
        if not sandbox_id or "/" in sandbox_id or sandbox_id.startswith("."):
            raise errdefs.InvalidArgument(f"invalid sandbox id: {sandbox_id}")
        self.namespaces.remove(sandbox_id)  # what a killed predecessor left
        with self.namespaces.create(sandbox_id):
            # For the interfaces to come, unless they get an IPv6 address; loopback keeps ::1.
            _write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")
            with RtNetlink() as rtnl:
                rtnl.transact([netlink.set_link(index=1, up=True)])
        try:
            self._store.put_sandbox(sandbox_id, config)
        except BaseException:
            self.namespaces.remove(sandbox_id)
            raise
        sandbox = Sandbox(sandbox_id, self.namespaces.path_of(sandbox_id), config)
        self._sandboxes[sandbox_id] = sandbox
        return sandbox

    def sandbox(self, sandbox_id: SandboxID) -> Sandbox:
        try:
            return self._sandboxes[sandbox_id]
        except KeyError:
            raise errdefs.NotFound(f"sandbox {sandbox_id} not found") from None

    def sandboxes(self) -> list[Sandbox]:
        return list(self._sandboxes.values())

    def delete_sandbox(self, sandbox_id: SandboxID) -> Sandbox | None:
        """The sandbox that was, None where there was none. Its ports close first, its addresses come free last."""
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None:
            self.namespaces.remove(sandbox_id)
            return None
        for endpoint in sandbox.endpoints:
            entry = self._networks[endpoint.network_id]
            entry.driver.unpublish(entry.spec, endpoint)
        self._resolver.forget(sandbox_id, [(e.network_id, e.id) for e in sandbox.endpoints if e.dns_names])
        for endpoint in sandbox.endpoints:
            entry = self._networks[endpoint.network_id]
            entry.driver.ending(entry.spec, endpoint)
        self.namespaces.remove(sandbox_id)
        self._store.delete_sandbox(sandbox_id)
        del self._sandboxes[sandbox_id]
        self._let_in(replace(sandbox, endpoints=()))
        for endpoint in sandbox.endpoints:
            entry = self._networks[endpoint.network_id]
            entry.driver.linger(endpoint)
            self._free(entry, endpoint)
        return sandbox

    # --- endpoints

    def connect(self, sandbox_id: SandboxID, network: str, config: EndpointConfig) -> Endpoint:
        """Raises errdefs.NotFound, PermissionDenied when joined already or for a taken address, ResourceExhausted for
        addresses, ports.PortUnavailable for ports."""
        sandbox, entry = self.sandbox(sandbox_id), self._networks.find(network)
        spec = entry.spec
        if spec.config_only:
            raise errdefs.PermissionDenied(f"cannot connect a container to configuration network {spec.name}")
        if any(e.network_id == spec.id for e in sandbox.endpoints):
            raise errdefs.PermissionDenied(f"endpoint with name {config.name} already exists in network {spec.name}")
        with ExitStack() as undo:
            entry.endpoints += 1  # at once: while a plugin is asked, the network must not be removed
            undo.callback(_uncount, entry)
            endpoint = endpoints.planned(sandbox, entry, config)
            undo.callback(entry.release, endpoint.ip, endpoint.ip6)
            self._store.put_joining(endpoint)
            undo.callback(self._store.delete_joining, endpoint.id)
            endpoint = entry.driver.join(spec, endpoint)
            undo.callback(entry.driver.leave, spec, endpoint)
            joined = replace(sandbox, endpoints=(*sandbox.endpoints, endpoint))
            if endpoint.way_out:
                self._route(joined)
                undo.callback(self._route, sandbox)
            joined, moved = self._publisher.settle(joined, config.port_bindings, undo)
            endpoint = joined.endpoints[-1]
            self._store.put_endpoint(
                replace(endpoint, ports=()),
                entry.allocator.cursor if entry.allocator is not None else 0,
                entry.allocator6.cursor if entry.allocator6 is not None else 0,
            )
            undo.callback(self._store.delete_endpoint, endpoint.id)
            if moved:
                self._store.update_endpoints(moved)
            self._sandboxes[sandbox_id] = joined
            undo.callback(self._sandboxes.__setitem__, sandbox_id, sandbox)
            self._let_in(joined)
            undo.callback(self._let_in, sandbox)
            if endpoint.dns_names:
                self._resolver.join(self._view(joined), _names(endpoint))
            undo.pop_all()
        return endpoint

    def change_ports(self, sandbox_id: SandboxID, add: Sequence[PortBinding], remove: Sequence[PortBinding]) -> Sandbox:
        """Publish and close ports of a running sandbox; all or nothing. A binding to be removed matches by container
        port and protocol, and by host address and port where it names them.

        Raises errdefs.NotFound for a port that is not published, InvalidArgument for a sandbox that cannot have any,
        ports.PortUnavailable.
        """
        changed, endpoint = self._publisher.change(self.sandbox(sandbox_id), add, remove)
        self._store.update_endpoints([endpoint])
        self._sandboxes[sandbox_id] = changed
        return changed

    def disconnect(self, sandbox_id: SandboxID, network: str, force: bool) -> None:
        """Raises errdefs.NotFound for an unknown sandbox or network, PermissionDenied when not joined; `force` makes
        that no error."""
        try:
            sandbox, entry = self.sandbox(sandbox_id), self._networks.find(network)
        except errdefs.NotFound:
            if force:
                return
            raise
        endpoint = sandbox.endpoint(entry.spec.id)
        if endpoint is None:
            if force:
                return
            raise errdefs.PermissionDenied(f"container {sandbox_id} is not connected to network {entry.spec.name}")
        entry.driver.unpublish(entry.spec, endpoint)
        rest = replace(sandbox, endpoints=tuple(e for e in sandbox.endpoints if e.id != endpoint.id))
        entry.driver.leave(entry.spec, endpoint)
        self._store.delete_endpoint(endpoint.id)
        self._sandboxes[sandbox_id] = rest
        self._let_in(rest)
        self._free(entry, endpoint)
        if endpoint.dns_names:
            view = self._view(rest) if rest.asks_resolver else None
            self._resolver.leave(view, sandbox_id, endpoint.network_id, endpoint.id)
        if endpoint.way_out and rest.gateway is not None:
            self._route(rest)
            # What was published on it goes to the way out that is left.
            with ExitStack() as undo:
                settled, moved = self._publisher.settle(rest, publishing.bindings_of(endpoint), undo)
                self._store.update_endpoints(moved)
                self._sandboxes[sandbox_id] = settled
                undo.pop_all()

    def rename(self, sandbox_id: SandboxID, name: str, dns_names: Mapping[NetworkID, tuple[str, ...]]) -> Sandbox:
        """The sandbox's container is called otherwise: names of its endpoints by network. Raises errdefs.NotFound."""
        sandbox = self.sandbox(sandbox_id)
        endpoints = tuple(
            replace(e, name=name, dns_names=dns_names.get(e.network_id, e.dns_names) if e.dns_names else ())
            for e in sandbox.endpoints
        )
        self._store.update_endpoints(endpoints)
        self._sandboxes[sandbox_id] = replace(sandbox, endpoints=endpoints)
        for endpoint in endpoints:
            self._networks[endpoint.network_id].driver.renamed(endpoint)
            if endpoint.dns_names:
                self._resolver.rename(_names(endpoint))
        return self._sandboxes[sandbox_id]

    def _let_in(self, sandbox: Sandbox, *, now: bool = True) -> None:
        """A sandbox may send in its own names, on several bridges by each what is its name on another: its way out is
        one."""
        specs = {e.id: self._networks[e.network_id].spec for e in sandbox.endpoints}
        bridged = [e for e in sandbox.endpoints if specs[e.id].driver in ("bridge", "overlay")]
        self._firewall.let_in(
            sandbox.id,
            [
                Source(specs[by.id].interface, ip_address(ip))
                for by in bridged
                for of in bridged
                for ip in (of.ip, of.ip6)
                if ip
            ],
            now=now,
        )

    def _route(self, sandbox: Sandbox) -> None:
        """Make the sandbox's default routes those of its way out."""
        way_out = sandbox.gateway
        if way_out is None:
            return
        with self.namespaces.opened(sandbox.id) as netns_fd, self.namespaces.netlink(netns_fd) as inner:
            interfaces.route_out(inner, sandbox.endpoints, way_out)

    @staticmethod
    def _free(entry: Entry, endpoint: Endpoint) -> None:
        entry.release(endpoint.ip, endpoint.ip6)
        _uncount(entry)

    # --- names

    def _wanted_names(self) -> Wanted:
        asking = [sandbox for sandbox in self._sandboxes.values() if sandbox.asks_resolver]
        names = tuple(_names(e) for sandbox in asking for e in sandbox.endpoints if e.dns_names)
        return Wanted(tuple(map(self._view, asking)), names)

    def _view(self, sandbox: Sandbox) -> SandboxView:
        named = [e for e in sandbox.endpoints if e.dns_names]
        return SandboxView(
            sandbox.id,
            tuple(e.network_id for e in named),
            {e.network_id: dict(e.dns_links) for e in named if e.dns_links},
            files.forwarded_servers(sandbox.config),
            sandbox.gateway is not None,
        )

    def resolver_lost(self) -> None:
        """The resolver process ended."""
        self._resolver.lost()

    # --- upkeep

    def sweep(self) -> bool:
        """Remove what outlived its sandbox; True when it is worth to look again later."""
        left = [driver.sweep() for driver in self._drivers.values()]  # every one of them, so no any() over the calls
        return any(left) or self._sweep_resolver()

    def _sweep_resolver(self) -> bool:
        """End the resolver after it had nobody to answer for some sweeps."""
        self._resolver_idle = 0 if self._resolver.serving or not self._resolver.connected else self._resolver_idle + 1
        if self._resolver_idle > _IDLE_SWEEPS:
            self._resolver.retire()
            self._resolver_idle = 0
        return self._resolver_idle > 0

    def heed(self, generations: Sequence[Generation]) -> None:
        """Repair the firewall if one of these transactions was another program's on our table."""
        culprit = self._firewall.disturbed_by(generations)
        if culprit:
            log.warning("%s changed nftables table inet %s: writing it again", culprit, self.options.table)
            self._firewall.repair()

    def host_gateway(self) -> str:
        """What `host-gateway` stands for in --add-host."""
        if self.options.host_gateway_ip:
            return self.options.host_gateway_ip
        default = next((entry.spec for entry in self._networks if entry.spec.name == "bridge"), None)
        return str(default.gateway or "") if default is not None else ""


def _uncount(entry: Entry) -> None:
    entry.endpoints -= 1


def _names(endpoint: Endpoint) -> Names:
    return Names(endpoint.network_id, endpoint.network_name, endpoint.id, endpoint.dns_names, endpoint.ip, endpoint.ip6)


def _write(path: str, value: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # a kernel without IPv6
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
