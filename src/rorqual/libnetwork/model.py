"""The values of libnetwork: what the daemon passes in and gets back. No behaviour but validation and rendering."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network
from types import MappingProxyType
from typing import Literal, NewType

from rorqual import errdefs

SandboxID = NewType("SandboxID", str)
NetworkID = NewType("NetworkID", str)
EndpointID = NewType("EndpointID", str)

Proto = Literal["tcp", "udp", "sctp"]
ANY = IPv4Address("0.0.0.0")
ANY6 = IPv6Address("::")
Scope = Literal["local", "swarm"]
GatewayMode = Literal["nat", "nat-unprotected", "routed", "isolated"]
_EMPTY: Mapping[str, str] = MappingProxyType({})


_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,14}")


def check_interface_name(name: str) -> str:
    """`name`. Raises errdefs.InvalidArgument unless it can name a device, and stand in the text of an nft command."""
    if not _INTERFACE.fullmatch(name):
        raise errdefs.InvalidArgument(f"invalid interface name: {name!r}")
    return name


@dataclass(frozen=True, slots=True)
class AddressPool:
    """`base` is cut into subnets of prefix length `size`, handed to networks one by one."""

    base: IPv4Network | IPv6Network
    size: int


DEFAULT_POOLS = (
    *(AddressPool(IPv4Network(f"172.{second}.0.0/16"), 16) for second in range(17, 32)),
    AddressPool(IPv4Network("192.168.0.0/16"), 20),
)


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """How one engine's networks are set up. `bip` is the default bridge's own address with its subnet (--bip);
    `fixed_cidr` the part of that subnet containers get; `port_range` the ports an unspecified host port is taken
    from (None: the kernel's ip_local_port_range); `table_name` the nftables table (None: the bridge's name);
    `userland_proxy` whether a process serves the IPv6 clients that the kernel cannot lead to a container;
    `input_policy` "obey" lets it serve all clients of published ports, so that what the host's own firewall says of
    its input is true of them; without `default_network` there is no network `bridge`."""

    bridge_name: str = "rorqual0"
    bip: IPv4Interface | None = None
    fixed_cidr: IPv4Network | None = None
    fixed_cidr6: IPv6Network | None = None
    address_pools: tuple[AddressPool, ...] = DEFAULT_POOLS
    mtu: int = 1500
    ipv6: bool = False
    icc: bool = True
    ip_masq: bool = True
    ip_forward: bool = True
    default_bind_address: IPv4Address = ANY
    host_gateway_ip: str | None = None
    table_name: str | None = None
    user_chain: str = "rorqual-user"
    port_range: tuple[int, int] | None = None
    userland_proxy: bool = True
    input_policy: Literal["bypass", "obey"] = "bypass"
    default_network: bool = True

    def __post_init__(self) -> None:
        check_interface_name(self.bridge_name)
        for name in (self.table, self.user_chain):
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_\-]{0,62}", name):
                raise errdefs.InvalidArgument(f"invalid nftables name: {name!r}")

    @property
    def table(self) -> str:
        """The nftables table. The prefix keeps a bridge's name from being one of nft's keywords."""
        if self.table_name:
            return self.table_name
        safe = re.sub(r"[^A-Za-z0-9_]", "_", self.bridge_name)
        return safe if safe.startswith("rorqual") else f"rorqual_{safe}"


@dataclass(frozen=True, slots=True)
class PortBinding:
    """A wish to publish: `host_port` 0 takes a free one, `host_port_end` makes it a range to take one from."""

    container_port: int
    proto: Proto = "tcp"
    host_ip: str = ""
    host_port: int = 0
    host_port_end: int = 0


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """A port as it is published."""

    container_port: int
    proto: Proto
    host_ip: str
    host_port: int


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """What a sandbox's hosts and resolv.conf files are made of. `extra_hosts` are (name, address) pairs, the address
    possibly `host-gateway`. `dns` empty means the host's own name servers."""

    hostname: str = ""
    domainname: str = ""
    extra_hosts: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    origin_resolv_conf_path: str = ""


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """How a sandbox joins a network. `name` is the container's name (for messages); `mac`, `ip` and `ip6` empty are
    chosen. `dns_names` are what others on the network find it by, its own name first; `dns_links` are (alias, name)
    pairs that only this sandbox knows others by. `links` are (container IP, names) lines for /etc/hosts. The endpoint
    of the highest `gw_priority` is the way out. `port_bindings` are the sandbox's; they are published on the endpoint
    that is its way out."""

    name: str = ""
    mac: str = ""
    ip: str = ""
    ip6: str = ""
    link_local_ips: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    dns_links: tuple[tuple[str, str], ...] = ()
    driver_opts: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    gw_priority: int = 0
    port_bindings: tuple[PortBinding, ...] = ()
    exposed_ports: tuple[tuple[int, Proto], ...] = ()
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Pool:
    """One more subnet of a network, with the part of it that endpoints get, and its gateway."""

    subnet: IPv4Network | IPv6Network
    ip_range: IPv4Network | IPv6Network | None = None
    gateway: IPv4Address | IPv6Address | None = None


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """A network to be made. A subnet None takes the next free pool. `config_from` names a network made with
    `config_only`, whose settings are taken. `more_pools` are subnets besides the first of each family. `id` is that of
    a network that is one in a whole swarm (`scope` "swarm"), whose managers have chosen it and the subnets."""

    name: str
    driver: str = "bridge"
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    subnet: IPv4Network | None = None
    ip_range: IPv4Network | None = None
    gateway: IPv4Address | None = None
    subnet6: IPv6Network | None = None
    ip_range6: IPv6Network | None = None
    gateway6: IPv6Address | None = None
    more_pools: tuple[Pool, ...] = ()
    aux_addresses: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    internal: bool = False
    attachable: bool = False
    config_only: bool = False
    config_from: str = ""
    options: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    labels: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    id: str = ""
    scope: Scope = "local"


@dataclass(frozen=True, slots=True)
class Network:
    """A network as it exists. `created_s` is seconds since the epoch; `interface` the bridge's (or macvlan's parent)
    device; `found` that this device was there before the network, and stays after it; `subnet_given` that its user
    chose the subnet (then addresses may be chosen too); `pool_ids` an IPAM plugin's names for the subnets."""

    id: NetworkID
    name: str
    driver: str
    created_s: float
    subnet: IPv4Network | None = None
    ip_range: IPv4Network | None = None
    gateway: IPv4Address | None = None
    interface: str = ""
    mtu: int = 1500
    icc: bool = True
    ip_masq: bool = True
    internal: bool = False
    attachable: bool = False
    aux_addresses: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    options: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    labels: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    subnet6: IPv6Network | None = None
    ip_range6: IPv6Network | None = None
    gateway6: IPv6Address | None = None
    gateway_mode: GatewayMode = "nat"
    gateway_mode6: GatewayMode = "nat"
    binding: str = ""
    binding6: str = ""
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    config_only: bool = False
    config_from: str = ""
    found: bool = False
    subnet_given: bool = False
    subnet6_given: bool = False
    pool_ids: tuple[str, str] = ("", "")
    more_pools: tuple[Pool, ...] = ()
    scope: Scope = "local"

    @property
    def closed(self) -> bool:
        """Whether nothing leaves it through this host: it is internal, or an overlay, whose endpoints have another
        network for that."""
        return self.internal or self.driver == "overlay"

    @property
    def predefined(self) -> bool:
        """bridge, host and none are made by the engine and cannot be removed."""
        return self.name in ("bridge", "host", "none")

    @property
    def interface_prefix(self) -> str:
        """What the interfaces in sandboxes are called, before their number."""
        return self.options.get("com.docker.network.container_iface_prefix") or "eth"

    @property
    def named(self) -> bool:
        """Whether its containers find each other by name: all but the three that are always there."""
        return not self.predefined and not self.config_only


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A sandbox's attachment to one network. `interface` is its device inside, `host_interface` its other end.
    `routed_ports` are open without being rewritten (gateway mode "routed")."""

    id: EndpointID
    name: str
    network_id: NetworkID
    network_name: str
    sandbox_id: SandboxID
    interface: str = ""
    host_interface: str = ""
    mac: str = ""
    ip: str = ""
    prefix: int = 0
    gateway: str = ""
    aliases: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    exposed_ports: tuple[tuple[int, Proto], ...] = ()
    ip6: str = ""
    prefix6: int = 0
    gateway6: str = ""
    link_local_ips: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    dns_links: tuple[tuple[str, str], ...] = ()
    driver_opts: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    gw_priority: int = 0
    routed_ports: tuple[tuple[int, Proto], ...] = ()
    onlink: bool = False
    driver: str = ""

    @property
    def way_out(self) -> bool:
        """Whether it has a gateway (or is `onlink`: everybody is reached directly), so can be the way out."""
        return bool(self.gateway or self.gateway6 or self.onlink)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A network stack. `netns_path` is a bind mount of its namespace; `endpoints` in the order they were joined."""

    id: SandboxID
    netns_path: str
    config: SandboxConfig
    endpoints: tuple[Endpoint, ...] = ()

    def endpoint(self, network: str) -> Endpoint | None:
        """The endpoint on the network of that name or id."""
        return next((e for e in self.endpoints if network in (e.network_id, e.network_name)), None)

    @property
    def gateway(self) -> Endpoint | None:
        """The endpoint that is the way out: highest gw_priority first, then by network name, as Docker chooses."""
        candidates = [e for e in self.endpoints if e.way_out]
        return min(
            candidates, key=lambda e: (-e.gw_priority, not (e.gateway or e.onlink), e.network_name), default=None
        )

    @property
    def asks_resolver(self) -> bool:
        """Whether it has names to ask the embedded DNS for: it is on a network with names."""
        return any(e.dns_names for e in self.endpoints)
