"""The nftables table of one engine, as the text of transactions. Pure: nothing here touches the kernel.

The rules never change while the engine runs: networks and published ports are elements of sets and maps, so that the
ten-thousandth port costs what the first did, to add and to match. A packet's way:

    from outside    raw-prerouting (loopback addresses) -> nat-prerouting (published? rewrite) -> forward -> container
    from this host  nat-output (published? rewrite) -> nat-postrouting (127.0.0.1 becomes the bridge's address)
    from a container  forward -> nat-postrouting (becomes the host's address)

`to-container` ends in a drop: only replies, neighbours on the same network and rewritten (that is: published)
connections get in. An accept here does not overrule a drop elsewhere: with another program's FORWARD policy of drop
(Docker's iptables rules, ufw), that program has to let the bridge's traffic through as well.

CVE-2025-54388, CVE-2025-54410: a port published on a loopback address is not reachable from another machine, neither
by a packet to 127.0.0.1 (raw-prerouting) nor by one to the container's own address (dropped in to-container).
CVE-2020-8558: a container cannot reach the host's loopback services though route_localnet is on for the bridge.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from rorqual.libnetwork.model import ANY, Proto

SETS = ("bridges", "same-bridge", "internal", "subnets", "masqueraded", "loopback-ports")
MAPS = ("publish", "publish-any")
CHAINS = ("raw-prerouting", "nat-prerouting", "nat-output", "nat-postrouting", "forward", "to-container")


@dataclass(frozen=True, slots=True)
class BridgeRules:
    """What the table has to know of one bridge network."""

    interface: str
    subnet: IPv4Network
    icc: bool = True
    ip_masq: bool = True
    internal: bool = False


@dataclass(frozen=True, slots=True)
class Publication:
    """Packets to `host_ip`:`host_port` (0.0.0.0: any address of this host) go to `ip`:`port`."""

    proto: Proto
    host_ip: IPv4Address
    host_port: int
    ip: IPv4Address
    port: int


def _elements(table: str, bridges: Iterable[BridgeRules], ports: Iterable[Publication]) -> dict[str, list[str]]:
    """Set or map -> its elements, for those that get any."""
    found: dict[str, list[str]] = {}
    for bridge in bridges:
        name = f'"{bridge.interface}"'
        found.setdefault("bridges", []).append(name)
        found.setdefault("subnets", []).append(str(bridge.subnet))
        if bridge.icc:
            found.setdefault("same-bridge", []).append(f"{name} . {name}")
        if bridge.internal:
            found.setdefault("internal", []).append(name)
        elif bridge.ip_masq:
            found.setdefault("masqueraded", []).append(str(bridge.subnet))
    for port in ports:
        target = f"{port.ip} . {port.port}"
        if port.host_ip == ANY:
            found.setdefault("publish-any", []).append(f"{port.proto} . {port.host_port} : {target}")
            continue
        key = f"{port.host_ip} . {port.proto} . {port.host_port}"
        found.setdefault("publish", []).append(f"{key} : {target}")
        if port.host_ip.is_loopback:
            found.setdefault("loopback-ports", []).append(key)
    return found


def add_elements(table: str, bridges: Iterable[BridgeRules] = (), ports: Iterable[Publication] = ()) -> str:
    """The transaction that adds these networks and ports."""
    parts = _elements(table, bridges, ports).items()
    return "".join(f"add element inet {table} {name} {{ {', '.join(items)} }}\n" for name, items in parts)


def delete_elements(table: str, bridges: Iterable[BridgeRules] = (), ports: Iterable[Publication] = ()) -> str:
    """The transaction that takes them out again; it fails as a whole where one of them is not there."""
    lines = []
    for name, items in _elements(table, bridges, ports).items():
        keys = [item.split(" : ")[0] for item in items]
        lines.append(f"delete element inet {table} {name} {{ {', '.join(keys)} }}\n")
    return "".join(lines)


def whole(table: str, user_chain: str, bridges: Iterable[BridgeRules], ports: Iterable[Publication]) -> str:
    """The transaction after which the table is exactly this, whatever of it there was; `user_chain` stays as it is."""
    lines = [
        f"add table inet {table}",
        f"add chain inet {table} {user_chain}",
        f"add set inet {table} bridges {{ type ifname; }}",
        f"add set inet {table} same-bridge {{ type ifname . ifname; }}",
        f"add set inet {table} internal {{ type ifname; }}",
        f"add set inet {table} subnets {{ type ipv4_addr; flags interval; }}",
        f"add set inet {table} masqueraded {{ type ipv4_addr; flags interval; }}",
        f"add set inet {table} loopback-ports {{ type ipv4_addr . inet_proto . inet_service; }}",
        f"add map inet {table} publish {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}",
        f"add map inet {table} publish-any {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}",
        f"add chain inet {table} raw-prerouting {{ type filter hook prerouting priority raw; policy accept; }}",
        f"add chain inet {table} nat-prerouting {{ type nat hook prerouting priority dstnat; policy accept; }}",
        # The name "dstnat" is only known for prerouting; -100 is its number.
        f"add chain inet {table} nat-output {{ type nat hook output priority -100; policy accept; }}",
        f"add chain inet {table} nat-postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}",
        f"add chain inet {table} forward {{ type filter hook forward priority filter; policy accept; }}",
        f"add chain inet {table} to-container",
        *(f"flush chain inet {table} {chain}" for chain in CHAINS),
        *(f"flush set inet {table} {name}" for name in SETS),
        *(f"flush map inet {table} {name}" for name in MAPS),
    ]
    lines += [f"add rule inet {table} {rule}" for rule in _rules(user_chain)]
    return "\n".join(lines) + "\n" + add_elements(table, bridges, ports)


def _rules(user_chain: str) -> list[str]:
    published = "dnat ip to ip daddr . meta l4proto . th dport map @publish"
    anywhere = "fib daddr type local dnat ip to meta l4proto . th dport map @publish-any"
    return [
        "raw-prerouting iifname @bridges ip daddr 127.0.0.0/8 drop",
        'raw-prerouting iifname != "lo" ip daddr . meta l4proto . th dport @loopback-ports drop',
        f"nat-prerouting {published}",
        f"nat-prerouting {anywhere}",
        f"nat-output {published}",
        f"nat-output {anywhere}",
        # A container answers its neighbour directly: without this, the answer to a rewritten call would not be.
        # By source address: a packet that br_netfilter shows us has no input interface here.
        "nat-postrouting oifname @bridges ip saddr @subnets ct status dnat masquerade",
        "nat-postrouting oifname @bridges ip saddr 127.0.0.0/8 masquerade",
        "nat-postrouting ip saddr @masqueraded oifname != @bridges masquerade",
        f"forward jump {user_chain}",
        "forward oifname @bridges goto to-container",
        "forward iifname @internal drop",
        "to-container ct state established,related accept",
        "to-container iifname . oifname @same-bridge accept",
        "to-container iifname @internal drop",
        "to-container oifname @internal drop",
        "to-container ct status dnat accept",
        "to-container drop",
    ]
