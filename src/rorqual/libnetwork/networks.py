"""What a network is to be: from the engine's options, or from a request to create one. Pure."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import TypeVar

from rorqual import errdefs
from rorqual.libnetwork.model import ControllerOptions, Network, NetworkConfig, NetworkID, check_interface_name

T = TypeVar("T")

PREFIX = "com.docker.network.bridge."
MTU = "com.docker.network.driver.mtu"


def default_bridge(spec: Network, options: ControllerOptions, subnet: IPv4Network, gateway: IPv4Address) -> Network:
    """The network `bridge`, as this engine was started."""
    return replace(
        spec,
        subnet=subnet,
        gateway=gateway,
        ip_range=options.fixed_cidr,
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


def user_bridge(
    config: NetworkConfig, options: ControllerOptions, ident: NetworkID, subnet: IPv4Network, created_s: float
) -> Network:
    """A user-defined network. Raises errdefs.InvalidArgument for what does not fit together."""
    if subnet.prefixlen > 30:
        raise errdefs.InvalidArgument(f"subnet {subnet} has no room for a gateway and a container")
    gateway = config.gateway or subnet.network_address + 1
    if gateway not in subnet:
        raise errdefs.InvalidArgument(f"no matching subnet for gateway {gateway}")
    if config.ip_range is not None and not config.ip_range.subnet_of(subnet):
        raise errdefs.InvalidArgument(f"no matching subnet for range {config.ip_range}")
    for address in config.aux_addresses.values():
        if _read("aux-address", address, IPv4Address) not in subnet:
            raise errdefs.InvalidArgument(f"no matching subnet for aux-address {address}")
    return Network(
        id=ident,
        name=config.name,
        driver=config.driver,
        created_s=created_s,
        subnet=subnet,
        ip_range=config.ip_range,
        gateway=gateway,
        interface=check_interface_name(config.options.get(PREFIX + "name") or f"br-{ident[:12]}"),
        mtu=_read(MTU, config.options.get(MTU) or str(options.mtu), int),
        icc=_read(PREFIX + "enable_icc", config.options.get(PREFIX + "enable_icc") or "true", _boolean),
        ip_masq=_read(
            PREFIX + "enable_ip_masquerade", config.options.get(PREFIX + "enable_ip_masquerade") or "true", _boolean
        ),
        internal=config.internal,
        attachable=config.attachable,
        aux_addresses=dict(config.aux_addresses),
        options=dict(config.options),
        labels=dict(config.labels),
    )


def _read(name: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise errdefs.InvalidArgument(f"invalid value for option {name}: {text}") from error


def _boolean(text: str) -> bool:
    """As Go's strconv.ParseBool."""
    words = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
    try:
        return words[text.lower()]
    except KeyError:
        raise ValueError(text) from None
