"""The nftables table of one engine, as the text of a transaction. Pure: nothing here touches the kernel.

The rules never change while the engine runs: networks and published ports are elements of sets and maps, so that the
ten-thousandth port costs what the first did, to add and to match. A packet's way:

    from outside    raw-prerouting (loopback addresses) -> nat-prerouting (published? rewrite) -> forward -> container
    from this host  nat-output (published? rewrite) -> nat-postrouting (127.0.0.1 becomes the bridge's address)
    from a container  forward -> nat-postrouting (becomes the host's address)

`to-container` ends in a drop: only replies, neighbours on the same network, rewritten (that is: published) connections
and, on networks whose addresses are routed, opened ports get in. An accept here does not overrule a drop elsewhere:
with another program's FORWARD policy of drop (Docker's iptables rules, ufw), that program has to let the bridge's
traffic through as well.

CVE-2025-54388, CVE-2025-54410: a port published on a loopback address is not reachable from another machine, neither
by a packet to 127.0.0.1 (raw-prerouting) nor by one to the container's own address (dropped in to-container).
CVE-2020-8558: a container cannot reach the host's loopback services though route_localnet is on for the bridge.
"""

from collections.abc import Iterable

from rorqual.libnetwork.firewall import elements
from rorqual.libnetwork.firewall.elements import BridgeRules, Publication, Source

_IP, _IP6 = "ipv4_addr", "ipv6_addr"
_KEY = "inet_proto . inet_service"
SETS = {
    "bridges": "type ifname;",
    "same-bridge": "type ifname . ifname;",
    "internal": "type ifname;",
    "subnets": f"type {_IP}; flags interval;",
    "subnets6": f"type {_IP6}; flags interval;",
    "masqueraded": f"type {_IP}; flags interval;",
    "masqueraded6": f"type {_IP6}; flags interval;",
    "loopback-ports": f"type {_IP} . {_KEY};",
    "rooted": "type ifname;",
    "rooted6": "type ifname;",
    "sources": f"type ifname . {_IP};",
    "sources6": f"type ifname . {_IP6};",
    "routed": "type ifname;",
    "routed6": "type ifname;",
    "open": "type ifname;",
    "open6": "type ifname;",
    "open-ports": f"type {_IP} . {_KEY};",
    "open-ports6": f"type {_IP6} . {_KEY};",
    "refused6": f"type {_KEY};",
}
MAPS = {
    "publish": f"type {_IP} . {_KEY} : {_IP} . inet_service;",
    "publish6": f"type {_IP6} . {_KEY} : {_IP6} . inet_service;",
    "publish-any": f"type {_KEY} : {_IP} . inet_service;",
    "publish-any6": f"type {_KEY} : {_IP6} . inet_service;",
}
CHAINS = ("raw-prerouting", "nat-prerouting", "nat-output", "output", "nat-postrouting", "forward", "to-container")


def whole(
    table: str,
    user_chain: str,
    bridges: Iterable[BridgeRules],
    ports: Iterable[Publication],
    sources: Iterable[Source] = (),
) -> str:
    """The transaction after which the table is exactly this, whatever of it there was; `user_chain` stays as it is."""
    lines = [
        f"add table inet {table}",
        f"add chain inet {table} {user_chain}",
        *(f"add set inet {table} {name} {{ {kind} }}" for name, kind in SETS.items()),
        *(f"add map inet {table} {name} {{ {kind} }}" for name, kind in MAPS.items()),
        f"add chain inet {table} raw-prerouting {{ type filter hook prerouting priority raw; policy accept; }}",
        f"add chain inet {table} nat-prerouting {{ type nat hook prerouting priority dstnat; policy accept; }}",
        # The name "dstnat" is only known for prerouting; -100 is its number.
        f"add chain inet {table} nat-output {{ type nat hook output priority -100; policy accept; }}",
        f"add chain inet {table} output {{ type filter hook output priority filter; policy accept; }}",
        f"add chain inet {table} nat-postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}",
        f"add chain inet {table} forward {{ type filter hook forward priority filter; policy accept; }}",
        f"add chain inet {table} to-container",
        *(f"flush chain inet {table} {chain}" for chain in CHAINS),
        *(f"flush set inet {table} {name}" for name in SETS),
        *(f"flush map inet {table} {name}" for name in MAPS),
    ]
    lines += [f"add rule inet {table} {rule}" for rule in _rules(user_chain)]
    return "\n".join(lines) + "\n" + elements.text(table, elements.members(bridges, ports, sources))


def _rules(user_chain: str) -> list[str]:
    published = [
        "dnat ip to ip daddr . meta l4proto . th dport map @publish",
        "dnat ip6 to ip6 daddr . meta l4proto . th dport map @publish6",
        "fib daddr type local dnat ip to meta l4proto . th dport map @publish-any",
        "ip6 daddr != ::1 fib daddr type local dnat ip6 to meta l4proto . th dport map @publish-any6",
    ]
    return [
        "raw-prerouting ip daddr 127.0.0.0/8 iifname @bridges drop",
        'raw-prerouting ip daddr 127.0.0.0/8 iifname != "lo" ip daddr . meta l4proto . th dport @loopback-ports drop',
        # Connection tracking knows a reply by its addresses, wherever it comes from: without this a container could
        # answer clients of another network's published port.
        # What every packet passes asks first what ends most: what a container sends in its own name ends at the first
        # lookup, what comes from outside at the second. A route costs four times that, a subnet more.
        "raw-prerouting iifname . ip saddr != @sources iifname @rooted fib saddr . iif oif missing "
        "ip saddr @subnets drop",
        "raw-prerouting iifname . ip6 saddr != @sources6 iifname @rooted6 fib saddr . iif oif missing "
        "ip6 saddr @subnets6 drop",
        *(f"nat-prerouting {rule}" for rule in published),
        *(f"nat-output {rule}" for rule in published),
        # The kernel sends nothing from ::1 over a device, whatever it is rewritten to later. Who tries ::1 of a
        # published port that no process serves is told so at once, and goes on to 127.0.0.1.
        "output ip6 daddr ::1 meta l4proto . th dport @refused6 meta l4proto tcp reject with tcp reset",
        "output ip6 daddr ::1 meta l4proto . th dport @refused6 reject",
        # A container answers its neighbour directly: without this, the answer to a rewritten call would not be.
        # By source address: a packet that br_netfilter shows us has no input interface here.
        "nat-postrouting oifname @bridges ip saddr @subnets ct status dnat masquerade",
        "nat-postrouting oifname @bridges ip6 saddr @subnets6 ct status dnat masquerade",
        "nat-postrouting oifname @bridges ip saddr 127.0.0.0/8 masquerade",
        "nat-postrouting ip saddr @masqueraded oifname != @bridges masquerade",
        "nat-postrouting ip6 saddr @masqueraded6 oifname != @bridges masquerade",
        f"forward jump {user_chain}",
        "forward oifname @bridges goto to-container",
        "forward iifname @internal drop",
        "to-container ct state established,related accept",
        "to-container iifname . oifname @same-bridge accept",
        "to-container iifname @internal drop",
        "to-container oifname @internal drop",
        "to-container ct status dnat accept",
        "to-container ip daddr . meta l4proto . th dport @open-ports accept",
        "to-container ip6 daddr . meta l4proto . th dport @open-ports6 accept",
        "to-container iifname != @bridges oifname @open meta nfproto ipv4 accept",
        "to-container iifname != @bridges oifname @open6 meta nfproto ipv6 accept",
        # Whoever may be called on an address of its own may also be looked for there.
        "to-container oifname @routed icmp type echo-request accept",
        "to-container oifname @routed6 icmpv6 type echo-request accept",
        "to-container drop",
    ]
