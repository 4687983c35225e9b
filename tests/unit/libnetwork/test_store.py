from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from rorqual.libnetwork.model import (
    Endpoint,
    EndpointID,
    Network,
    NetworkID,
    PublishedPort,
    SandboxConfig,
    SandboxID,
)
from rorqual.libnetwork.store import Store

NETWORK = Network(
    NetworkID("n1"),
    "red",
    "bridge",
    12.5,
    IPv4Network("10.0.0.0/24"),
    None,
    IPv4Address("10.0.0.1"),
    "br-n1",
    options={"a": "b"},
)
CONFIG = SandboxConfig("h", "d", (("x", "1.2.3.4"),), dns=("1.1.1.1",))
ENDPOINT = Endpoint(
    EndpointID("e1"),
    "web",
    NETWORK.id,
    "red",
    SandboxID("s1"),
    "eth0",
    "veth1",
    "02:42:0a:00:00:02",
    "10.0.0.2",
    24,
    "10.0.0.1",
    ("alias",),
    (("10.0.0.3", "db db1"),),
    (PublishedPort(80, "tcp", "0.0.0.0", 8080),),
    ((80, "tcp"),),
)


def test_what_is_put_comes_back_the_same(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "network.db"))
    store.put_network(NETWORK)
    store.put_sandbox(ENDPOINT.sandbox_id, CONFIG)
    store.put_endpoint(ENDPOINT, cursor=2)
    store.close()
    store = Store(str(tmp_path / "network.db"))
    assert store.networks() == [(NETWORK, 2, 0)]
    assert store.sandboxes() == {"s1": CONFIG}
    assert store.endpoints() == [ENDPOINT]
    store.delete_sandbox(ENDPOINT.sandbox_id)
    assert store.count() == {"networks": 1, "sandboxes": 0, "endpoints": 0, "ports": 0}
    store.delete_network(NETWORK.id)
    assert store.networks() == []
    store.close()


def test_changing_a_network_keeps_its_cursor(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "network.db"))
    store.put_network(NETWORK)
    store.put_endpoint(ENDPOINT, cursor=7)
    store.put_network(NETWORK)
    assert store.networks() == [(NETWORK, 7, 0)]
    store.close()
