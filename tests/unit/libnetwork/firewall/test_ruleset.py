"""The table is compared with a golden file; UPDATE_GOLDEN=1 writes it anew."""

import os
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from rorqual.libnetwork.firewall.elements import BridgeRules, Publication
from rorqual.libnetwork.firewall.ruleset import whole

GOLDEN = Path(__file__).parent / "golden.nft"
BRIDGES = [
    BridgeRules("rorqual0", IPv4Network("172.17.0.0/16")),
    BridgeRules("br-quiet", IPv4Network("172.18.0.0/16"), icc=False),
    BridgeRules("br-vault", IPv4Network("172.19.0.0/16"), internal=True),
    BridgeRules("br-route", IPv4Network("172.20.0.0/16"), ip_masq=False),
]
PORTS = [
    Publication("tcp", IPv4Address("0.0.0.0"), 8080, IPv4Address("172.17.0.2"), 80),
    Publication("udp", IPv4Address("192.0.2.7"), 53, IPv4Address("172.17.0.3"), 5353),
    Publication("tcp", IPv4Address("127.0.0.1"), 9000, IPv4Address("172.18.0.2"), 9000),
]


def test_whole_table_is_the_golden_one() -> None:
    text = whole("rorqual0", "rorqual-user", BRIDGES, PORTS)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_whole_table_never_flushes_the_administrators_chain() -> None:
    text = whole("rorqual0", "rorqual-user", BRIDGES, PORTS)
    assert "flush chain inet rorqual0 rorqual-user" not in text
    assert "delete" not in text and "add rule inet rorqual0 rorqual-user" not in text
