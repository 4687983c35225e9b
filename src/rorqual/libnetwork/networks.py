"""What a network is to be: from the engine's options, or from a request to create one. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeVar, cast

from rorqual import errdefs
from rorqual.libnetwork.model import (
    ControllerOptions,
    GatewayMode,
    Network,
    NetworkConfig,
    NetworkID,
    check_interface_name,
)

T = TypeVar("T")

PREFIX = "com.docker.network.bridge."
MTU = "com.docker.network.driver.mtu"
VXLAN_BYTES = 50  # what its header takes of an Ethernet frame
_MODES = ("nat", "nat-unprotected", "routed", "isolated")


def default_bridge(spec: Network, options: ControllerOptions, subnet: IPv4Network, gateway: IPv4Address) -> Network:
    """The network `bridge`, as this engine was started."""
    return replace(
        spec,
        subnet=subnet,
        gateway=gateway,
        ip_range=options.fixed_cidr,
        enable_ipv6=options.ipv6,
        subnet6=options.fixed_cidr6 if options.ipv6 else None,
        gateway6=options.fixed_cidr6.network_address + 1 if options.ipv6 and options.fixed_cidr6 else None,
        interface=options.bridge_name,
        mtu=options.mtu,
        icc=options.icc,
        ip_masq=options.ip_masq,
        options={
            PREFIX + "default_bridge": "true",
            PREFIX + "enable_icc": str(options.icc).lower(),
            PREFIX + "enable_ip_masquerade": str(options.ip_masq).lower(),
            PREFIX + "host_binding_ipv4": str(options.default_bind_address),
            PREFIX + "name": options.bridge_name,
            MTU: str(options.mtu),
        },
    )


def addressed(
    config: NetworkConfig,
    ident: NetworkID,
    subnet: IPv4Network | None,
    subnet6: IPv6Network | None,
    created_s: float,
    *,
    gateway_needed: bool = True,
) -> Network:
    """A network with its pools, whatever its driver: what the request says, checked to fit together. Without
    `gateway_needed` an internal network has no gateway but one asked for.

    Raises errdefs.InvalidArgument.
    """
    if subnet is not None and subnet.prefixlen > 30 and gateway_needed:
        raise errdefs.InvalidArgument(f"subnet {subnet} has no room for a gateway and a container")
    gateway = config.gateway
    if gateway is None and subnet is not None:
        gateway = subnet.network_address + 1
    gateway6 = config.gateway6
    if gateway6 is None and subnet6 is not None:
        gateway6 = subnet6.network_address + 1
    more = tuple(replace(p, gateway=p.gateway or p.subnet.network_address + 1) for p in config.more_pools)
    first = ((subnet, gateway, config.ip_range), (subnet6, gateway6, config.ip_range6))
    for pool, way, part in (*first, *((p.subnet, p.gateway, p.ip_range) for p in more)):
        if way is not None and (pool is None or way not in pool):
            raise errdefs.InvalidArgument(f"no matching subnet for gateway {way}")
        if part is not None and (pool is None or part.version != pool.version or not part.subnet_of(pool)):  # type: ignore[arg-type]
            raise errdefs.InvalidArgument(f"no matching subnet for range {part}")
    for address in config.aux_addresses.values():
        parsed = _read("aux-address", address, ip_address)
        if not any(pool is not None and parsed in pool for pool in (subnet, subnet6, *(p.subnet for p in more))):
            raise errdefs.InvalidArgument(f"no matching subnet for aux-address {address}")
    return Network(
        id=ident,
        name=config.name,
        driver=config.driver,
        created_s=created_s,
        enable_ipv4=config.enable_ipv4,
        enable_ipv6=config.enable_ipv6,
        subnet=subnet,
        ip_range=config.ip_range,
        gateway=gateway,
        subnet6=subnet6,
        ip_range6=config.ip_range6,
        gateway6=gateway6,
        subnet_given=config.subnet is not None,
        subnet6_given=config.subnet6 is not None,
        more_pools=more,
        ipam_driver=config.ipam_driver,
        ipam_options=dict(config.ipam_options),
        config_from=config.config_from,
        internal=config.internal,
        attachable=config.attachable,
        aux_addresses=dict(config.aux_addresses),
        options=dict(config.options),
        labels=dict(config.labels),
        scope=config.scope,
    )


def user_bridge(spec: Network, options: ControllerOptions) -> Network:
    """A user-defined network of driver bridge: its driver options read. Raises errdefs.InvalidArgument."""
    one_of_each(spec)
    given = spec.options
    modes: list[GatewayMode] = []
    for family in ("ipv4", "ipv6"):
        name = f"{PREFIX}gateway_mode_{family}"
        mode = given.get(name) or "nat"
        if mode not in _MODES:
            raise errdefs.InvalidArgument(f"unknown gateway mode {mode}")
        if mode == "isolated" and not spec.internal:
            raise errdefs.InvalidArgument("gateway mode 'isolated' can only be used for an internal network")
        modes.append(cast(GatewayMode, mode))
    binding = given.get(PREFIX + "host_binding_ipv4") or ""
    binding6 = given.get(PREFIX + "host_binding_ipv6") or ""
    if binding:
        _read(PREFIX + "host_binding_ipv4", binding, IPv4Address)
    if binding6:
        _read(PREFIX + "host_binding_ipv6", binding6, IPv6Address)
    mtu = mtu_of(given, options.mtu)
    return replace(
        spec,
        interface=check_interface_name(given.get(PREFIX + "name") or f"br-{spec.id[:12]}"),
        mtu=mtu,
        icc=_flag(given, PREFIX + "enable_icc"),
        ip_masq=_flag(given, PREFIX + "enable_ip_masquerade"),
        gateway_mode=modes[0],
        gateway_mode6=modes[1],
        binding=binding,
        binding6=binding6,
    )


def overlay(spec: Network, options: ControllerOptions) -> Network:
    """A network of driver overlay, as this host has its part of it: a bridge that the host is not on.

    Raises errdefs.InvalidArgument.
    """
    one_of_each(spec)
    mtu = mtu_of(spec.options, options.mtu - VXLAN_BYTES)
    return replace(spec, interface=f"ov-{spec.id[:12]}", mtu=mtu, gateway_mode="isolated", gateway_mode6="isolated")


def one_of_each(spec: Network) -> None:
    """Raises errdefs.PermissionDenied, in Docker's words, for a network of several subnets of one family."""
    if spec.more_pools:
        raise errdefs.PermissionDenied(f"{spec.driver} driver doesn't support multiple subnets")


def mtu_of(given: Mapping[str, str], default: int) -> int:
    """The MTU that driver options ask for. Raises errdefs.InvalidArgument."""
    mtu = _read(MTU, given.get(MTU) or str(default), int)
    if mtu < 0 or mtu > 65535:
        raise errdefs.InvalidArgument(f"invalid MTU number: {mtu}")
    return mtu


def _flag(given: Mapping[str, str], name: str) -> bool:
    return _read(name, given.get(name) or "true", boolean)


def _read(name: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise errdefs.InvalidArgument(f"invalid value for option {name}: {text}") from error


def boolean(text: str) -> bool:
    """As Go's strconv.ParseBool."""
    words = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
    try:
        return words[text.lower()]
    except KeyError:
        raise ValueError(text) from None
