from ipaddress import ip_address
from typing import Any

from rorqual.libnetwork.dns import message
from rorqual.libnetwork.dns.message import Query
from rorqual.libnetwork.dns.zone import Directory, View


def directory() -> Directory:
    d = Directory()
    d.put("n1", "red", "e1", {"names": ["web", "www", "0123456789ab"], "ip": "10.0.0.2", "ip6": "fd00::2"})
    d.put("n1", "red", "e2", {"names": ["web2", "www"], "ip": "10.0.0.3", "ip6": ""})
    d.put("n2", "blue", "e3", {"names": ["web"], "ip": "10.1.0.2", "ip6": ""})
    return d


def view(*networks: str, **links: dict[str, str]) -> View:
    return View({"networks": list(networks), "links": links, "servers": [], "forward": False})


def asked(d: Directory, v: View, name: str, qtype: int = message.A) -> Any:
    found = d.resolve(v, Query(1, 0, name, qtype, message.IN, b""))
    if found is None or qtype == message.PTR:
        return found
    return [str(ip_address(rdata)) for rdata in found]


def test_names_aliases_and_short_ids_of_the_own_networks_only() -> None:
    d = directory()
    assert asked(d, view("n1"), "web") == asked(d, view("n1"), "0123456789ab") == ["10.0.0.2"]
    assert asked(d, view("n1"), "web", message.AAAA) == ["fd00::2"]
    assert asked(d, view("n2"), "www") is None
    assert asked(d, view(), "web") is None


def test_networks_are_looked_at_in_their_order() -> None:
    d = directory()
    assert asked(d, view("n2", "n1"), "web") == ["10.1.0.2"]
    assert asked(d, view("n1", "n2"), "web") == ["10.0.0.2"]
    assert asked(d, view("n1", "n2"), "web.blue") == ["10.1.0.2"]
    assert asked(d, view("n1"), "web.blue") is None


def test_an_alias_that_many_have_gives_all_in_turn() -> None:
    d, v = directory(), view("n1")
    answers = [asked(d, v, "www") for _ in range(4)]
    assert all(sorted(answer) == ["10.0.0.2", "10.0.0.3"] for answer in answers)
    assert {answer[0] for answer in answers} == {"10.0.0.2", "10.0.0.3"}


def test_a_known_name_has_no_records_but_addresses() -> None:
    d, v = directory(), view("n1")
    assert asked(d, v, "web2", message.AAAA) == []
    assert asked(d, v, "web", 15) == []
    assert asked(d, v, "example.com", 15) is None


def test_a_link_is_the_sandboxs_own_name_for_another() -> None:
    d = directory()
    assert asked(d, view("n1", n1={"db": "web2"}), "db") == ["10.0.0.3"]
    assert asked(d, view("n1"), "db") is None


def test_addresses_have_names_on_the_own_networks() -> None:
    d = directory()
    assert asked(d, view("n1"), "2.0.0.10.in-addr.arpa", message.PTR) == [message.encode_name("web.red")]
    assert asked(d, view("n2"), "2.0.0.10.in-addr.arpa", message.PTR) is None


def test_what_is_dropped_is_forgotten_wholly() -> None:
    d = directory()
    d.drop("n1", "e1")
    assert asked(d, view("n1"), "www") == ["10.0.0.3"] and asked(d, view("n1"), "web") is None
    d.drop("n1", "e2")
    d.drop("n1", "e2")
    assert "n1" not in d.networks


def test_an_endpoint_put_again_has_its_new_names_only() -> None:
    d = directory()
    d.put("n1", "red", "e1", {"names": ["wob"], "ip": "10.0.0.2", "ip6": ""})
    assert asked(d, view("n1"), "wob") == ["10.0.0.2"] and asked(d, view("n1"), "web") is None


def test_a_name_that_dns_cannot_say_is_no_pointer_and_ends_nothing() -> None:
    d, v = Directory(), view("n1")
    for number, name in enumerate(("a..b", "x" * 64, ".".join(["y" * 60] * 5), "z.", ".."), start=2):
        address = f"10.0.0.{number}"
        d.put("n1", "red", f"e{number}", {"names": [name], "ip": address, "ip6": ""})
        assert asked(d, v, f"{number}.0.0.10.in-addr.arpa", message.PTR) == []
