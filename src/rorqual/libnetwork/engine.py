"""The state of an engine's networks, sandboxes and endpoints, and every change of it. Runs in one thread: the
controller's. Memory is the truth while it runs; a change is made in the kernel first, then committed to the store, then
answered. A process killed between the two leaves kernel objects without a row, which the next `start` removes."""

import logging
import os
import secrets
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from rorqual import errdefs
from rorqual.libnetwork import networks
from rorqual.libnetwork.drivers.base import Driver
from rorqual.libnetwork.drivers.bridge import BridgeDriver, mac_of
from rorqual.libnetwork.drivers.host import HostDriver
from rorqual.libnetwork.drivers.null import NullDriver
from rorqual.libnetwork.firewall.keeper import Firewall
from rorqual.libnetwork.ipam import pools
from rorqual.libnetwork.ipam.allocator import Allocator
from rorqual.libnetwork.model import (
    ControllerOptions,
    Endpoint,
    EndpointConfig,
    EndpointID,
    Network,
    NetworkConfig,
    NetworkID,
    Sandbox,
    SandboxConfig,
    SandboxID,
)
from rorqual.libnetwork.netns import NamespaceDir
from rorqual.libnetwork.ports import PortUnavailable
from rorqual.libnetwork.store import Store
from rorqual.linux import netlink
from rorqual.linux.netlink import RtNetlink, mac_bytes
from rorqual.linux.nftables import Generation

log = logging.getLogger(__name__)

_PREDEFINED = (("bridge", "bridge"), ("host", "host"), ("none", "null"))


@dataclass(slots=True)
class _Network:
    """A network with what is in use of it."""

    spec: Network
    driver: Driver
    allocator: Allocator | None
    endpoints: int = 0


class Engine:
    """Constructed and used in one thread, in the network namespace that is the host's."""

    def __init__(self, store_path: str, exec_root: str, options: ControllerOptions) -> None:
        self.options = options
        self.namespaces = NamespaceDir(f"{exec_root}/netns")
        self._store = Store(store_path)
        self._firewall = Firewall(options.table, options.user_chain)
        bridge = BridgeDriver(options, self.namespaces, self._firewall)
        self._drivers: dict[str, Driver] = {d.name: d for d in (bridge, HostDriver(), NullDriver())}
        self._networks: dict[NetworkID, _Network] = {}
        self._sandboxes: dict[SandboxID, Sandbox] = {}

    # --- life

    def start(self, live: Collection[SandboxID]) -> None:
        """Load the store, keep what belongs to `live` sandboxes, remove everything else, and make the kernel's state
        what the store says."""
        self.namespaces.open()
        for network, cursor in self._store.networks():
            self._adopt(network, cursor)
        for name, driver in _PREDEFINED:
            self._predefined(name, driver)
        self._load_sandboxes(frozenset(live))
        # First the namespaces (their ends of veth pairs go with them), then bridges, then what hangs on those.
        for name in self.namespaces.names():
            if name not in self._sandboxes:
                self.namespaces.remove(name)
        for entry in self._networks.values():
            entry.driver.bring_up(entry.spec)
        endpoints = [e for sandbox in self._sandboxes.values() for e in sandbox.endpoints]
        for driver_ in self._drivers.values():
            its = [entry.spec for entry in self._networks.values() if entry.driver is driver_]
            ids = {network.id for network in its}
            driver_.restore(its, [e for e in endpoints if e.network_id in ids])

    def close(self) -> None:
        """End this process's part. Containers, their namespaces and their ports go on."""
        for driver in self._drivers.values():
            driver.close()
        self._firewall.close()
        self.namespaces.close()
        self._store.close()

    def purge(self) -> None:
        """Remove everything of this engine from the kernel: sandboxes (their processes lose their network), bridges,
        the table, the mounts. Networks stay in the store. `close` is all that may follow."""
        for sandbox_id in list(self._sandboxes):
            self.delete_sandbox(sandbox_id)
        for entry in self._networks.values():
            entry.driver.take_down(entry.spec)
        self._firewall.remove()
        self.namespaces.remove_all()

    def _load_sandboxes(self, live: Collection[SandboxID]) -> None:
        configs = self._store.sandboxes()
        for sandbox_id in configs:
            if sandbox_id in live:
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
            if entry.allocator is not None and endpoint.ip:
                entry.allocator.reserve(IPv4Address(endpoint.ip))
                if entry.spec.subnet is not None and IPv4Address(endpoint.ip) not in entry.spec.subnet:
                    log.warning("%s keeps %s, outside of %s, until restarted", sandbox.id, endpoint.ip, entry.spec.name)
            self._sandboxes[sandbox.id] = replace(sandbox, endpoints=(*sandbox.endpoints, endpoint))

    # --- networks

    def _adopt(self, network: Network, cursor: int = 0) -> _Network:
        """Take a network into memory. Raises errdefs.InvalidArgument for a driver that is none."""
        driver = self._drivers.get(network.driver)
        if driver is None:
            raise errdefs.NotFound(f"could not find plugin {network.driver} in v1 plugin registry: plugin not found")
        allocator = None
        if driver.addressed:
            assert network.subnet is not None and network.gateway is not None
            allocator = Allocator(network.subnet, network.ip_range, cursor)
            allocator.reserve(network.gateway)
            for address in network.aux_addresses.values():
                allocator.reserve(IPv4Address(address))
        entry = _Network(network, driver, allocator)
        self._networks[network.id] = entry
        return entry

    def _predefined(self, name: str, driver: str) -> None:
        known = next((entry.spec for entry in self._networks.values() if entry.spec.name == name), None)
        spec = known or Network(NetworkID(secrets.token_hex(32)), name, driver, time.time())
        if name == "bridge":
            spec = self._default_bridge(spec)
        if spec != known:
            self._store.put_network(spec)
            self._adopt(spec)

    def _default_bridge(self, spec: Network) -> Network:
        """The default network as the options want it. Its subnet: --bip's; else the one it has; else that of a bridge
        someone prepared under its name; else the first free pool."""
        options = self.options
        subnet, gateway = spec.subnet, spec.gateway
        if options.bip is not None:
            subnet, gateway = options.bip.network, options.bip.ip
        elif subnet is None or gateway is None:
            subnet, gateway = self._existing_bridge(options.bridge_name) or (None, None)
        if subnet is None or gateway is None:
            subnet = self._free_subnet()
            gateway = subnet.network_address + 1
        return networks.default_bridge(spec, options, subnet, gateway)

    @staticmethod
    def _existing_bridge(name: str) -> tuple[IPv4Network, IPv4Address] | None:
        with RtNetlink() as rtnl:
            link = rtnl.link(name)
            for address in rtnl.addresses() if link is not None else ():
                if link is not None and address.index == link.index:
                    ip = IPv4Address(address.address)
                    return IPv4Network((ip, address.prefix), strict=False), ip
        return None

    def _free_subnet(self) -> IPv4Network:
        """The first pool subnet that no route of this host and no network of ours overlaps."""
        with RtNetlink() as rtnl:
            taken = [IPv4Network((r.destination, r.prefix)) for r in rtnl.routes() if r.destination]
        taken += [entry.spec.subnet for entry in self._networks.values() if entry.spec.subnet is not None]
        return pools.choose(self.options.address_pools, taken)

    def create_network(self, config: NetworkConfig) -> Network:
        """Raises errdefs.Conflict when the name is taken, InvalidArgument, PermissionDenied for an overlap."""
        if not config.name or config.name in ("host", "none", "default"):
            raise errdefs.PermissionDenied(f"operation is not permitted on predefined {config.name} network")
        if any(entry.spec.name == config.name for entry in self._networks.values()):
            raise errdefs.Conflict(f"network with name {config.name} already exists")
        if config.driver in ("host", "null"):
            raise errdefs.PermissionDenied(f'only one instance of "{config.driver}" network is allowed')
        ident = NetworkID(secrets.token_hex(32))
        spec = networks.user_bridge(config, self.options, ident, self._subnet_for(config), time.time())
        entry = self._adopt(spec)
        with ExitStack() as undo:
            undo.callback(self._networks.pop, spec.id)
            # The row comes first: a bridge of our name pattern without one would be nobody's after a crash.
            self._store.put_network(spec)
            undo.callback(self._store.delete_network, spec.id)
            undo.callback(entry.driver.take_down, spec)
            entry.driver.bring_up(spec)
            undo.pop_all()
        return spec

    def _subnet_for(self, config: NetworkConfig) -> IPv4Network:
        if config.subnet is None:
            return self._free_subnet()
        ours = [entry.spec.subnet for entry in self._networks.values() if entry.spec.subnet is not None]
        pools.check_requested(config.subnet, ours)
        return config.subnet

    def remove_network(self, name_or_id: str) -> Network:
        """Raises errdefs.PermissionDenied for a predefined network or one with endpoints, NotFound."""
        entry = self._find(name_or_id)
        spec = entry.spec
        if spec.predefined:
            raise errdefs.PermissionDenied(f"{spec.name} is a pre-defined network and cannot be removed")
        if entry.endpoints:
            names = " ".join(f'name:"{e.name}" id:"{e.id[:12]}"' for e in self.endpoints(spec.id))
            raise errdefs.PermissionDenied(
                f"error while removing network: network {spec.name} has active endpoints ({names})"
            )
        entry.driver.take_down(spec)
        self._store.delete_network(spec.id)
        del self._networks[spec.id]
        return spec

    def _find(self, name_or_id: str) -> _Network:
        """By id, then name, then unambiguous start of an id, as Docker looks."""
        found = self._networks.get(NetworkID(name_or_id))
        if found is not None:
            return found
        named = [entry for entry in self._networks.values() if entry.spec.name == name_or_id]
        matching = named or [e for e in self._networks.values() if name_or_id and e.spec.id.startswith(name_or_id)]
        if len(matching) > 1:
            raise errdefs.InvalidArgument(f"network {name_or_id} is ambiguous ({len(matching)} matches found on name)")
        if not matching:
            raise errdefs.NotFound(f"network {name_or_id} not found")
        return matching[0]

    def networks(self) -> list[Network]:
        return [entry.spec for entry in self._networks.values()]

    def network(self, name_or_id: str) -> Network:
        return self._find(name_or_id).spec

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
            if not self.options.ipv6:
                # For the interfaces to come; loopback keeps ::1.
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

    def delete_sandbox(self, sandbox_id: SandboxID) -> None:
        """Idempotent. Its ports close first, its addresses come free last."""
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None:
            self.namespaces.remove(sandbox_id)
            return
        for endpoint in sandbox.endpoints:
            entry = self._networks[endpoint.network_id]
            entry.driver.unpublish(entry.spec, endpoint)
        self.namespaces.remove(sandbox_id)
        self._store.delete_sandbox(sandbox_id)
        del self._sandboxes[sandbox_id]
        for endpoint in sandbox.endpoints:
            entry = self._networks[endpoint.network_id]
            entry.driver.linger(endpoint)
            self._free(entry, endpoint)

    # --- endpoints

    def connect(self, sandbox_id: SandboxID, network: str, config: EndpointConfig) -> Endpoint:
        """Raises errdefs.NotFound, Conflict when joined already, PermissionDenied or ResourceExhausted for addresses,
        ports.PortUnavailable for ports."""
        sandbox, entry = self.sandbox(sandbox_id), self._find(network)
        if any(e.network_id == entry.spec.id for e in sandbox.endpoints):
            raise errdefs.PermissionDenied(
                f"endpoint with name {config.name} already exists in network {entry.spec.name}"
            )
        with ExitStack() as undo:
            endpoint = self._endpoint(sandbox, entry, config)
            undo.callback(self._free_address, entry, endpoint)
            first = not any(e.gateway for e in sandbox.endpoints)
            entry.driver.join(entry.spec, endpoint, default_route=first and not entry.spec.internal)
            undo.callback(entry.driver.leave, entry.spec, endpoint)
            try:
                ports = entry.driver.publish(entry.spec, endpoint, config.port_bindings)
            except PortUnavailable as error:
                where = f"endpoint {config.name} ({endpoint.id})"
                raise PortUnavailable(f"driver failed programming external connectivity on {where}: {error}") from error
            endpoint = replace(endpoint, ports=ports)
            undo.callback(entry.driver.unpublish, entry.spec, endpoint)
            self._store.put_endpoint(endpoint, entry.allocator.cursor if entry.allocator is not None else 0)
            undo.pop_all()
        entry.endpoints += 1
        self._sandboxes[sandbox_id] = replace(sandbox, endpoints=(*sandbox.endpoints, endpoint))
        return endpoint

    def _endpoint(self, sandbox: Sandbox, entry: _Network, config: EndpointConfig) -> Endpoint:
        """The endpoint that is to be made, its address taken."""
        spec = entry.spec
        ident = EndpointID(secrets.token_hex(32))
        endpoint = Endpoint(
            id=ident,
            name=config.name,
            network_id=spec.id,
            network_name=spec.name,
            sandbox_id=sandbox.id,
            aliases=config.aliases,
            links=config.links,
            exposed_ports=config.exposed_ports,
        )
        if entry.allocator is None or spec.subnet is None:
            return endpoint
        mac = _mac(config.mac)
        address = self._address(entry, config.ip)
        return replace(
            endpoint,
            interface=_free_interface(sandbox.endpoints),
            host_interface=f"veth{ident[:11]}",
            mac=mac or mac_of(address),
            ip=str(address),
            prefix=spec.subnet.prefixlen,
            gateway="" if spec.internal else str(spec.gateway),
        )

    @staticmethod
    def _address(entry: _Network, requested: str) -> IPv4Address:
        assert entry.allocator is not None
        if not requested:
            return entry.allocator.allocate(f"{entry.spec.name} ({entry.spec.id})")
        try:
            address = IPv4Address(requested)
        except ValueError as error:
            raise errdefs.InvalidArgument(f"invalid IPv4 address: {requested}") from error
        entry.allocator.request(address)
        return address

    def disconnect(self, sandbox_id: SandboxID, network: str, force: bool) -> None:
        """Raises errdefs.NotFound for an unknown sandbox or network, PermissionDenied when not joined; `force` makes
        that no error."""
        try:
            sandbox, entry = self.sandbox(sandbox_id), self._find(network)
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
        entry.driver.leave(entry.spec, endpoint)
        self._store.delete_endpoint(endpoint.id)
        rest = tuple(e for e in sandbox.endpoints if e.id != endpoint.id)
        self._sandboxes[sandbox_id] = replace(sandbox, endpoints=rest)
        self._free(entry, endpoint)
        # Where it was the way out, the oldest of the others is the way out now.
        successor = next((e for e in rest if e.gateway), None)
        if successor is not None and endpoint.gateway:
            with (
                self.namespaces.opened(sandbox_id) as netns_fd,
                self.namespaces.netlink(netns_fd) as rtnl,
            ):
                rtnl.transact([netlink.new_route(gateway=IPv4Address(successor.gateway).packed)])

    @staticmethod
    def _free_address(entry: _Network, endpoint: Endpoint) -> None:
        if entry.allocator is not None and endpoint.ip:
            entry.allocator.release(IPv4Address(endpoint.ip))

    def _free(self, entry: _Network, endpoint: Endpoint) -> None:
        self._free_address(entry, endpoint)
        entry.endpoints -= 1

    # --- upkeep

    def sweep(self) -> bool:
        """Remove what outlived its sandbox; True when it is worth to look again later."""
        left = [driver.sweep() for driver in self._drivers.values()]  # every one of them, so no any() over the calls
        return any(left)

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
        return str(self._find("bridge").spec.gateway or "")


def _free_interface(endpoints: Sequence[Endpoint]) -> str:
    taken = {e.interface for e in endpoints}
    names: Iterator[str] = (f"eth{n}" for n in range(len(taken) + 1))
    return next(name for name in names if name not in taken)


def _mac(text: str) -> str:
    if not text:
        return ""
    try:
        return netlink.mac_text(mac_bytes(text))
    except ValueError as error:
        raise errdefs.InvalidArgument(str(error)) from error


def _write(path: str, value: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # a kernel without IPv6
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
