"""Published ports changed after create: what is asked for at the next start."""

from rorqual.api.config import PortBinding
from rorqual.daemon.services.containers.ports import changed

FIXED, ELSEWHERE, RANDOM = PortBinding("", "8080"), PortBinding("127.0.0.1", "8081"), PortBinding("127.0.0.1", "")
HAVE = {"80/tcp": (FIXED, ELSEWHERE, RANDOM), "53/udp": (PortBinding("", "53"),)}


def test_added_ports_come_behind_those_there_are() -> None:
    after = changed(HAVE, {"80/tcp": (PortBinding("", "9090"),), "443": None}, {})
    assert after["80/tcp"] == (FIXED, ELSEWHERE, RANDOM, PortBinding("", "9090"))
    assert after["443/tcp"] == (PortBinding(),)


def test_a_port_that_is_named_is_closed_and_no_other() -> None:
    assert changed(HAVE, {}, {"80": (PortBinding("", "8080"),)})["80/tcp"] == (ELSEWHERE, RANDOM)
    assert changed(HAVE, {}, {"80": (PortBinding("127.0.0.1", "8081"),)})["80/tcp"] == (FIXED, RANDOM)


def test_a_host_port_that_nothing_names_was_left_to_chance() -> None:
    assert changed(HAVE, {}, {"80": (PortBinding("", "32768"),)})["80/tcp"] == (FIXED, ELSEWHERE)


def test_without_a_host_port_all_of_the_containers_port_are_closed() -> None:
    assert changed(HAVE, {}, {"80": None}) == {"53/udp": HAVE["53/udp"]}
