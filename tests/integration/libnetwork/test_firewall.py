"""The kernel's table by itself: single changes amount to what writing it whole does."""

import json
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from rorqual.libnetwork.firewall.elements import BridgeRules, Publication, Source
from rorqual.libnetwork.firewall.keeper import Firewall
from rorqual.linux.nfelements import Element, ElementSocket

pytestmark = pytest.mark.root

BRIDGES = [
    BridgeRules("br-a", IPv4Network("10.0.0.0/24"), subnet6=IPv6Network("fd00:a::/64")),
    BridgeRules("br-b", IPv4Network("10.0.1.0/24"), icc=False, internal=True),  # begins where the one before ends
    BridgeRules(
        "br-c",
        IPv4Network("255.255.255.0/24"),
        False,
        subnet6=IPv6Network("fd00:c::/64"),
        mode="routed",
        mode6="routed",
    ),  # nothing comes after
    BridgeRules("br-with.a-nam15", IPv4Network("10.0.7.0/30"), mode="nat-unprotected"),
    BridgeRules("tcp", None, subnet6=IPv6Network("ffff:ffff::/32"), mode6="nat-unprotected"),
]
PORTS = [
    Publication("tcp", IPv4Address("0.0.0.0"), 8080, IPv4Address("10.0.0.2"), 80),
    Publication("udp", IPv4Address("192.0.2.1"), 53, IPv4Address("10.0.0.2"), 5353),
    Publication("sctp", IPv4Address("127.0.0.1"), 65535, IPv4Address("10.0.0.3"), 1),
    Publication("tcp", IPv6Address("::"), 8080, IPv6Address("fd00:a::2"), 80),
    Publication("tcp", IPv6Address("::"), 8081, IPv6Address("fd00:a::2"), 80, loopback6=True),
    Publication("udp", IPv6Address("2001:db8::1"), 53, IPv6Address("fd00:a::2"), 53),
    Publication("tcp", IPv4Address("255.255.255.2"), 0, IPv4Address("255.255.255.2"), 443),
    Publication("udp", IPv6Address("fd00:a::2"), 0, IPv6Address("fd00:a::2"), 443),
]
SOURCES = [Source("br-a", IPv4Address("10.0.1.2")), Source("br-with.a-nam15", IPv6Address("fd00:a::2"))]


def contents(lab) -> dict[str, list[str]]:
    """Every set and map of the table, its elements in order."""
    listed = json.loads(lab.run(None, "nft -j list table inet t"))["nftables"]
    parts = [part.get("set") or part.get("map") for part in listed if "set" in part or "map" in part]
    return {part["name"]: sorted(json.dumps(e) for e in part.get("elem", [])) for part in parts}


def test_single_changes_amount_to_the_whole(lab: Callable) -> None:
    async def body(lab):
        firewall = Firewall("t", "t-user")
        firewall.replace([], [])
        empty = contents(lab)
        for bridge in BRIDGES:
            firewall.add_bridge(bridge)
        firewall.publish(PORTS)
        for sandbox, source in enumerate(SOURCES):
            firewall.let_in(str(sandbox), [source])
        by_single_changes = contents(lab)
        firewall.repair()
        assert contents(lab) == by_single_changes != empty
        assert [name for name, elements in by_single_changes.items() if not elements] == []
        firewall.unpublish(PORTS)
        for sandbox in range(len(SOURCES)):
            firewall.let_in(str(sandbox), [])
        for bridge in BRIDGES:
            firewall.remove_bridge(bridge.interface)
        assert contents(lab) == empty
        firewall.close()

    lab(body)


def test_a_change_that_the_kernel_refuses_writes_the_table_anew(lab: Callable, caplog) -> None:
    async def body(lab):
        firewall = Firewall("t", "t-user")
        firewall.replace([], [])
        for harm in ("nft delete table inet t", "nft flush set inet t subnets", "nft flush ruleset"):
            firewall.add_bridge(BRIDGES[0])
            lab.run(None, harm)
            firewall.remove_bridge("br-a") if "subnets" in harm else firewall.add_bridge(BRIDGES[1])
            found = contents(lab)
            assert len(found["bridges"]) == (0 if "subnets" in harm else 2), harm
            firewall.replace([], [])
        firewall.close()

    lab(body)


def test_what_is_refused_is_an_error_and_leaves_nothing_of_its_transaction(lab: Callable) -> None:
    async def body(lab):
        lab.run(None, "nft 'add table inet t; add set inet t numbers { type inet_service; }'")
        sock = ElementSocket()
        first = Element("numbers", b"\0\1")
        with pytest.raises(OSError, match="elements of nftables table inet t: No such file"):
            sock.add("t", [first, Element("nosuch", b"\0\2")])
        assert contents(lab) == {"numbers": []}
        many = [Element("numbers", number.to_bytes(2, "big")) for number in range(1000)]
        sock.add("t", many)
        assert len(contents(lab)["numbers"]) == 1000
        sock.delete("t", many)
        with pytest.raises(FileNotFoundError):
            sock.delete("t", many[:1])
        with pytest.raises(FileNotFoundError):
            sock.add("nosuch", many[:1])
        assert contents(lab) == {"numbers": []}
        sock.close()

    lab(body)
