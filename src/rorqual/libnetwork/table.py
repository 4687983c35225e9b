"""The networks of an engine: finding, making and removing them, and their addresses. Used by the engine's thread."""

import logging
import secrets
import socket
import time
from bisect import insort
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from typing import Any

from rorqual import errdefs
from rorqual.libnetwork import networks
from rorqual.libnetwork.drivers.base import Driver
from rorqual.libnetwork.entry import Entry, subnets_of
from rorqual.libnetwork.ipam import pools
from rorqual.libnetwork.ipam.allocator import Allocator
from rorqual.libnetwork.ipam.hostroutes import HostRoutes
from rorqual.libnetwork.ipam.pools import Span, Subnet
from rorqual.libnetwork.ipam.remote import RemoteAllocator, release_pool, request_pool
from rorqual.libnetwork.model import ControllerOptions, Endpoint, Network, NetworkConfig, NetworkID
from rorqual.libnetwork.plugins import NetworkPlugin
from rorqual.libnetwork.store import Store
from rorqual.linux.netlink import RtNetlink

log = logging.getLogger(__name__)

_OWN_IPAM = ("default", "null")
_PREDEFINED = (("bridge", "bridge"), ("host", "host"), ("none", "null"))


class NetworkTable:
    """All networks, by id."""

    def __init__(
        self,
        options: ControllerOptions,
        store: Store,
        drivers: dict[str, Driver],
        remote: Callable[[NetworkPlugin, frozenset[str]], Driver],
        plugin: Callable[[str, str], NetworkPlugin],
    ) -> None:
        """`plugin` gives the plugin of a name that speaks a protocol, not looked for yet; `remote` makes a driver of
        one, given the networks that it knows already. Those made are added to `drivers`."""
        self._options, self._store, self._drivers = options, store, drivers
        self._remote, self._plugin = remote, plugin
        self._local = frozenset(drivers)
        self._entries: dict[NetworkID, Entry] = {}
        self._spans: dict[int, list[Span]] = {4: [], 6: []}  # of all of them by IP version, in order
        self._routes: dict[int, HostRoutes] = {}
        self._making: set[str] = set()  # names of networks that a plugin is being asked about

    def __iter__(self) -> Iterator[Entry]:
        """Of a copy: others may make and remove networks before it ends, and the event loop looks in too."""
        return iter(tuple(self._entries.values()))

    def get(self, network_id: NetworkID) -> Entry | None:
        return self._entries.get(network_id)

    def __getitem__(self, network_id: NetworkID) -> Entry:
        return self._entries[network_id]

    def find(self, name_or_id: str) -> Entry:
        """By id, then name, then unambiguous start of an id, as Docker looks. Raises errdefs.NotFound,
        InvalidArgument when ambiguous."""
        found = self._entries.get(NetworkID(name_or_id))
        if found is not None:
            return found
        named = [entry for entry in self if entry.spec.name == name_or_id]
        matching = named or [e for e in self if name_or_id and e.spec.id.startswith(name_or_id)]
        if len(matching) > 1:
            raise errdefs.InvalidArgument(f"network {name_or_id} is ambiguous ({len(matching)} matches found on name)")
        if not matching:
            raise errdefs.NotFound(f"network {name_or_id} not found")
        return matching[0]

    def lane_of(self, driver: str, ipam_driver: str) -> str:
        """The plugin that changes of such a network wait for, "" for none."""
        if driver not in self._local:
            return driver
        return "" if ipam_driver in _OWN_IPAM else ipam_driver

    def lane_for(self, config: NetworkConfig) -> str:
        """The plugin that making this network will wait for."""
        source = self._source(config.config_from)
        return self.lane_of(config.driver, source.ipam_driver if source is not None else config.ipam_driver)

    def _source(self, name: str) -> Network | None:
        return next((entry.spec for entry in self if name and name in (entry.spec.name, entry.spec.id)), None)

    # --- at start

    def load(self) -> None:
        """Those of the store, and the three that are always there. No plugin is asked for anything."""
        stored = self._store.networks()
        for network, cursor, cursor6 in stored:
            known = frozenset(other.id for other, _, _ in stored if other.driver == network.driver)
            self._adopt(network, cursor, cursor6, known)
        for name, driver in _PREDEFINED:
            had = next((entry.spec for entry in self if entry.spec.name == name), None)
            if name == "bridge" and not self._options.default_network:
                if had is not None:  # the engine was started otherwise before
                    self._forget(had.id).driver.take_down(had)
                    self._store.delete_network(had.id)
                continue
            spec = had or Network(NetworkID(secrets.token_hex(32)), name, driver, time.time())
            if name == "bridge":
                spec = self._default_bridge(spec)
            if spec != had:
                self._store.put_network(spec)
                self._adopt(spec)

    def _driver(self, name: str, known: frozenset[str] = frozenset(), *, ask: bool = False) -> Driver:
        """With `ask` a plugin that was not met yet is looked for: raises errdefs.NotFound for a name that is none's,
        Unavailable for one that does not answer."""
        if name not in self._drivers:
            plugin = self._plugin(name, "NetworkDriver")
            self._drivers[name] = self._remote(plugin.find() if ask else plugin, known)
        return self._drivers[name]

    def _adopt(self, network: Network, cursor: int = 0, cursor6: int = 0, known: frozenset[str] = frozenset()) -> Entry:
        """Take a network into memory."""
        driver = self._driver(network.driver, known)
        entry = Entry(network, driver, lane=self.lane_of(network.driver, network.ipam_driver))
        entry.spans = [(subnet.version, pools.span(subnet)) for subnet in subnets_of(network)]
        if any(network.pool_ids):
            plugin = self._plugin(network.ipam_driver, "IpamDriver")
            four, six = network.pool_ids
            entry.allocator = RemoteAllocator(plugin, four, network.subnet) if four and network.subnet else None
            entry.allocator6 = RemoteAllocator(plugin, six, network.subnet6) if six and network.subnet6 else None
        elif driver.addressed and not network.config_only:
            auxiliary = [ip_address(address) for address in network.aux_addresses.values()]
            if network.subnet is not None:
                entry.allocator = Allocator(network.subnet, network.ip_range, cursor)
            if network.subnet6 is not None:
                entry.allocator6 = Allocator(network.subnet6, network.ip_range6, cursor6)
            entry.more = [(pool, Allocator(pool.subnet, pool.ip_range)) for pool in network.more_pools]
            gateways = (network.gateway, network.gateway6, *(pool.gateway for pool in network.more_pools))
            for address in (*gateways, *auxiliary):
                allocator = entry.allocator if address is None or address.version == 4 else entry.allocator6
                if allocator is not None and address is not None:
                    entry.allocator_of(address, allocator).reserve(address)
        self._keep(entry)
        return entry

    def _keep(self, entry: Entry) -> None:
        """In the place of one that has its id."""
        had = self._entries.get(entry.spec.id)
        for version, span in had.spans if had is not None else ():
            self._spans[version].remove(span)
        self._entries[entry.spec.id] = entry
        for version, span in entry.spans:
            insort(self._spans[version], span)

    def _forget(self, network_id: NetworkID) -> Entry:
        entry = self._entries.pop(network_id)
        for version, span in entry.spans:
            self._spans[version].remove(span)
        return entry

    def _default_bridge(self, spec: Network) -> Network:
        """The default network as the options want it. Its subnet: --bip's; else the one it has; else that of a bridge
        someone prepared under its name; else the first free pool."""
        options = self._options
        subnet, gateway = spec.subnet, spec.gateway
        if options.bip is not None:
            subnet, gateway = options.bip.network, options.bip.ip
        elif subnet is None or gateway is None:
            subnet, gateway = _existing_bridge(options.bridge_name) or (None, None)
        if subnet is None or gateway is None:
            chosen = self._free_subnet(4)
            assert isinstance(chosen, IPv4Network)
            subnet, gateway = chosen, chosen.network_address + 1
        if options.ipv6 and options.fixed_cidr6 is None:
            six = spec.subnet6 or self._free_subnet(6)
            assert isinstance(six, IPv6Network)
            options = replace(options, fixed_cidr6=six)
        return networks.default_bridge(spec, options, subnet, gateway)

    # --- making and removing

    def _free_subnet(self, version: int) -> Subnet:
        """The first subnet of the pools that no route of this host and no network of ours overlaps."""
        ours = self._spans[version]
        candidates = [pool for pool in self._options.address_pools if pool.base.version == version]
        if version == 6 and not candidates:
            candidates = [pools.unique_local(self._seed())]
        if version not in self._routes:
            self._routes[version] = HostRoutes(socket.AF_INET if version == 4 else socket.AF_INET6)
        routes = self._routes[version]
        try:
            return pools.choose(candidates, routes.foreign(ours) + ours)
        except errdefs.InvalidArgument:
            routes.again()  # some may have gone
            return pools.choose(candidates, routes.foreign(ours) + ours)

    def close(self) -> None:
        """Let go of sockets."""
        for routes in self._routes.values():
            routes.close()

    def _seed(self) -> str:
        """Random, and the same as long as this engine's database lives."""
        return next((entry.spec.id for entry in self if entry.spec.name == "none"), "") or secrets.token_hex(32)

    def _subnets(self) -> list[Subnet]:
        return [subnet for entry in self if entry.spec.scope == "local" for subnet in subnets_of(entry.spec)]

    def create(self, config: NetworkConfig) -> Network:
        """Raises errdefs.Conflict when the name is taken, InvalidArgument, PermissionDenied for an overlap."""
        if config.name in ("host", "none", "default", "bridge"):
            raise errdefs.PermissionDenied(f"operation is not permitted on predefined {config.name} network")
        if config.name in self._making or any(entry.spec.name == config.name for entry in self):
            raise errdefs.Conflict(f"network with name {config.name} already exists")
        if config.config_only:
            return self._create_config_only(config)
        if config.config_from:
            config = self._configured(config)
        self._making.add(config.name)
        try:
            return self._make(config)
        finally:
            self._making.discard(config.name)

    def _make(self, config: NetworkConfig) -> Network:
        driver = self._driver(config.driver, ask=True)
        if not config.enable_ipv4 and not config.enable_ipv6:
            raise errdefs.InvalidArgument("IPv4 or IPv6 must be enabled")
        with ExitStack() as undo:
            pool_ids = ("", "")
            if config.ipam_driver not in _OWN_IPAM:
                config, pool_ids = self._remote_pools(config, undo)
            addressed = driver.addressed and config.ipam_driver != "null"
            subnet, subnet6 = self._subnets_for(config) if addressed else (None, None)
            ident = NetworkID(config.id or secrets.token_hex(32))
            spec = networks.addressed(config, ident, subnet, subnet6, time.time())
            spec = driver.shape(replace(spec, pool_ids=pool_ids))
            entry = self._adopt(spec)
            undo.callback(self._forget, spec.id)
            # The row comes first: a bridge of our name pattern without one would be nobody's after a crash.
            self._store.put_network(spec)
            undo.callback(self._store.delete_network, spec.id)
            undo.callback(entry.driver.take_down, spec)
            entry.driver.bring_up(spec)
            undo.pop_all()
        for version, routes in self._routes.items():
            routes.heed(self._spans[version])  # while it is known that the new ones are ours
        return spec

    def _remote_pools(self, config: NetworkConfig, undo: ExitStack) -> tuple[NetworkConfig, tuple[str, str]]:
        """The request with the subnets and gateways that its IPAM plugin gives. Raises errdefs.NotFound, Internal,
        Unavailable, PermissionDenied for more of them than one of each family."""
        if config.more_pools:
            raise errdefs.PermissionDenied(f"IPAM driver {config.ipam_driver} is asked for one subnet of each family")
        plugin = self._plugin(config.ipam_driver, "IpamDriver").find()
        ids = ["", ""]
        for version, six in ((4, ""), (6, "6")):
            if not (config.enable_ipv4 if version == 4 else config.enable_ipv6):
                continue
            pool = request_pool(
                plugin,
                subnet=str(getattr(config, f"subnet{six}") or ""),
                part=str(getattr(config, f"ip_range{six}") or ""),
                options=config.ipam_options,
                version=version,
                gateway=str(getattr(config, f"gateway{six}") or ""),
            )
            undo.callback(release_pool, plugin, pool.id)
            ids[six == "6"] = pool.id
            given: dict[str, Any] = {f"subnet{six}": pool.subnet, f"gateway{six}": pool.gateway}
            config = replace(config, **given)
        return config, (ids[0], ids[1])

    def _subnets_for(self, config: NetworkConfig) -> tuple[IPv4Network | None, IPv6Network | None]:
        chosen: list[Subnet | None] = []
        for version, enabled, wanted in (
            (4, config.enable_ipv4, config.subnet),
            (6, config.enable_ipv6, config.subnet6),
        ):
            if not enabled:
                chosen.append(None)
            elif wanted is None:
                chosen.append(self._free_subnet(version))
            else:
                if config.scope == "local":  # a swarm's subnets are an address space of their own
                    pools.check_requested(wanted, self._subnets())
                chosen.append(wanted)
        if config.more_pools:
            taken = [*self._subnets(), *(subnet for subnet in chosen if subnet is not None)]
            for pool in config.more_pools:
                pools.check_requested(pool.subnet, taken)
                taken.append(pool.subnet)
        four, six = chosen
        assert not isinstance(four, IPv6Network) and not isinstance(six, IPv4Network)
        return four, six

    def _create_config_only(self, config: NetworkConfig) -> Network:
        """A network that is nothing but settings for others."""
        if config.config_from:
            raise errdefs.PermissionDenied("a configuration network cannot depend on another configuration network")
        if config.internal or config.attachable:
            raise errdefs.PermissionDenied(
                "configuration network can only contain network specific fields. Network operator fields like "
                "[ ingress | internal | attachable | scope ] are not supported."
            )
        given = networks.addressed(config, NetworkID(secrets.token_hex(32)), config.subnet, config.subnet6, time.time())
        spec = replace(given, driver="null", config_only=True, gateway=config.gateway, gateway6=config.gateway6)
        self._store.put_network(spec)
        self._adopt(spec)
        return spec

    def _configured(self, config: NetworkConfig) -> NetworkConfig:
        """The request with the settings of the network that it names."""
        source = self._source(config.config_from)
        if source is None or not source.config_only:
            raise errdefs.NotFound(f"configuration network {config.config_from!r} does not exist")
        own = (config.subnet, config.subnet6, config.more_pools, config.enable_ipv6, config.ipam_options, config.labels)
        if any(own) or config.ipam_driver != "default":
            raise errdefs.PermissionDenied(
                "user specified configurations are not supported if the network depends on a configuration network"
            )
        if config.options:
            raise errdefs.PermissionDenied(
                "network driver options are not supported if the network depends on a configuration network"
            )
        return replace(
            config,
            config_from=source.name,
            enable_ipv4=source.enable_ipv4,
            enable_ipv6=source.enable_ipv6,
            subnet=source.subnet,
            ip_range=source.ip_range,
            gateway=source.gateway,
            subnet6=source.subnet6,
            ip_range6=source.ip_range6,
            more_pools=source.more_pools,
            gateway6=source.gateway6,
            aux_addresses=source.aux_addresses,
            ipam_driver=source.ipam_driver,
            ipam_options=source.ipam_options,
            options=source.options,
            labels=source.labels,
        )

    def remove(self, entry: Entry, endpoints: list[Endpoint]) -> Network:
        """`endpoints` are those on it. Raises errdefs.PermissionDenied for a predefined network or one in use."""
        spec = entry.spec
        if spec.predefined:
            raise errdefs.PermissionDenied(f"{spec.name} is a pre-defined network and cannot be removed")
        if spec.config_only:
            if any(other.spec.config_from == spec.name for other in self):
                raise errdefs.PermissionDenied(f'configuration network "{spec.name}" is in use')
        elif entry.endpoints:
            names = ", ".join(f'name:"{e.name}" id:"{e.id[:12]}"' for e in endpoints)
            raise errdefs.PermissionDenied(
                f"error while removing network: network {spec.name} has active endpoints ({names})"
            )
        else:
            entry.driver.take_down(spec)
        self._store.delete_network(spec.id)
        self._forget(spec.id)
        if any(spec.pool_ids):
            plugin = self._plugin(spec.ipam_driver, "IpamDriver")
            for ident in filter(None, spec.pool_ids):
                release_pool(plugin, ident)
        return spec


def _existing_bridge(name: str) -> tuple[IPv4Network, IPv4Address] | None:
    with RtNetlink() as rtnl:
        link = rtnl.link(name)
        for address in rtnl.addresses() if link is not None else ():
            if link is not None and address.index == link.index:
                ip = IPv4Address(address.address)
                return IPv4Network((ip, address.prefix), strict=False), ip
    return None
