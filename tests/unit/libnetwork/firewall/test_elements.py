from ipaddress import IPv4Address, IPv4Network, IPv6Address

from rorqual.libnetwork.firewall.elements import BridgeRules, Publication, members, text
from rorqual.linux.nfelements import Element

WEB = Publication("tcp", IPv4Address("0.0.0.0"), 8080, IPv4Address("172.17.0.2"), 80)
LOCAL = Publication("udp", IPv4Address("127.0.0.1"), 9000, IPv4Address("172.18.0.2"), 9001)


def test_a_port_is_elements_only() -> None:
    assert text("t", members(ports=[WEB])) == "add element inet t publish-any { tcp . 8080 : 172.17.0.2 . 80 }\n"
    assert text("t", members(ports=[LOCAL])) == (
        "add element inet t publish { 127.0.0.1 . udp . 9000 : 172.18.0.2 . 9001 }\n"
        "add element inet t loopback-ports { 127.0.0.1 . udp . 9000 }\n"
    )


def test_parts_are_padded_to_four_bytes() -> None:
    (packed,) = (member.packed for member in members(ports=[WEB]))
    assert packed == Element("publish-any", b"\6\0\0\0\x1f\x90\0\0", value=b"\xac\x11\0\2\0\x50\0\0")
    six = Publication("sctp", IPv6Address("2001:db8::1"), 1, IPv6Address("fd00::2"), 2)
    (packed,) = (member.packed for member in members(ports=[six]))
    assert (len(packed.key), len(packed.value), packed.key[16]) == (24, 20, 132)


def test_a_network_is_intervals_and_its_device_last() -> None:
    found = [member.packed for member in members([BridgeRules("br0", IPv4Network("172.20.0.0/16"))])]
    assert found[0] == Element("subnets", bytes((172, 20, 0, 0)), last=bytes((172, 20, 255, 255)))
    assert found[-1] == Element("bridges", b"br0".ljust(16, b"\0"))


def test_ipv6_loopback_is_refused_where_nobody_serves_it() -> None:
    for served in (False, True):
        port = Publication("tcp", IPv6Address("::"), 80, IPv6Address("fd00::2"), 80, loopback6=served)
        assert ("refused6" in {member.name for member in members(ports=[port])}) == (not served)
