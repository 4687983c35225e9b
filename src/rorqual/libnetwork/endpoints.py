"""What a new endpoint is to be: names, addresses, interface, as far as it can be said before a driver makes it."""

import secrets
from dataclasses import replace

from rorqual import errdefs
from rorqual.libnetwork import interfaces
from rorqual.libnetwork.entry import Entry
from rorqual.libnetwork.model import Endpoint, EndpointConfig, EndpointID, Sandbox
from rorqual.linux import netlink
from rorqual.linux.netlink import mac_bytes


def planned(sandbox: Sandbox, entry: Entry, config: EndpointConfig) -> Endpoint:
    """The endpoint that is to be made, its addresses taken from the network.

    Raises errdefs.InvalidArgument, Conflict (interface name), PermissionDenied (address), ResourceExhausted.
    """
    spec = entry.spec
    ident = EndpointID(secrets.token_hex(32))
    endpoint = Endpoint(
        id=ident,
        name=config.name,
        network_id=spec.id,
        network_name=spec.name,
        sandbox_id=sandbox.id,
        driver=spec.driver,
        aliases=config.aliases,
        links=config.links,
        exposed_ports=config.exposed_ports,
        dns_names=config.dns_names if spec.named else (),
        dns_links=config.dns_links if spec.named else (),
        driver_opts=dict(config.driver_opts),
        gw_priority=config.gw_priority,
        link_local_ips=config.link_local_ips,
    )
    if not entry.driver.addressed:
        return endpoint
    taken = {e.interface for e in sandbox.endpoints}
    interface = interfaces.chosen_name(config.driver_opts.get(interfaces.IFNAME, ""), taken, spec.interface_prefix)
    mac = _mac(config.mac)
    interfaces.settings(replace(endpoint, interface=interface))  # refused before anything is made
    address = entry.take(config.ip, 4)
    try:
        address6 = entry.take(config.ip6 if spec.enable_ipv6 else "", 6)
    except BaseException:
        entry.release(str(address or ""))
        raise
    chosen = address or address6
    prefix, gateway = entry.link_of(address, 4)
    prefix6, gateway6 = entry.link_of(address6, 6)
    return replace(
        endpoint,
        interface=interface,
        host_interface=f"veth{ident[:11]}",
        mac=mac or (interfaces.mac_of(chosen) if chosen is not None else _random_mac()),
        ip=str(address or ""),
        prefix=prefix,
        gateway="" if spec.closed else gateway,
        ip6=str(address6 or ""),
        prefix6=prefix6,
        gateway6="" if spec.closed else gateway6,
    )


def _mac(text: str) -> str:
    if not text:
        return ""
    try:
        return netlink.mac_text(mac_bytes(text))
    except ValueError as error:
        raise errdefs.InvalidArgument(str(error)) from error


def _random_mac() -> str:
    """For an interface without an address to make one of: locally administered, unicast."""
    return netlink.mac_text(b"\x02\x42" + secrets.token_bytes(4))
