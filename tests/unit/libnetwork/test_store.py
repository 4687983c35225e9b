import sqlite3
from contextlib import closing
from dataclasses import replace
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


def test_a_database_of_before_ipv6_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "network.db")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "CREATE TABLE networks(id TEXT PRIMARY KEY, name TEXT NOT NULL, created_s REAL NOT NULL,"
            " cursor INTEGER NOT NULL DEFAULT 0, spec TEXT NOT NULL) WITHOUT ROWID"
        )
        spec = '{"driver":"bridge","subnet":"10.0.0.0/24","gateway":"10.0.0.1","interface":"br-n1","options":{"a":"b"}}'
        db.execute("INSERT INTO networks VALUES('n1', 'red', 12.5, 9, ?)", (spec,))
        db.execute("PRAGMA user_version = 1")
    for _ in range(2):  # the second opening finds it changed already
        store = Store(path)
        assert store.networks() == [(NETWORK, 9, 0)]
        store.close()


def test_ports_move_from_one_endpoint_to_another_in_one_step(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "network.db"))
    store.put_network(NETWORK)
    other = replace(ENDPOINT, id=EndpointID("e2"), ip="10.0.0.9", ports=())
    store.put_endpoint(ENDPOINT)
    store.put_endpoint(other)
    moved = [replace(ENDPOINT, ports=()), replace(other, ports=ENDPOINT.ports, name="wob")]
    store.update_endpoints(moved)
    assert store.endpoints() == moved
    store.close()
