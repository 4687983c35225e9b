"""network.db: networks, sandboxes, endpoints, published ports. SQLite in WAL mode, used by one thread.

A commit is in the kernel's page cache when it returns (synchronous=NORMAL): it survives SIGKILL of this process at any
moment. It may be lost with the machine's power, and so are then the namespaces and containers it speaks of; networks,
which must outlive that, are committed with a sync.

    networks(id, name, created_s, cursor, cursor6, spec)  spec: JSON of the rest of model.Network
    sandboxes(id, config)                               JSON of model.SandboxConfig
    endpoints(id, sandbox_id, network_id, ip, spec)     JSON of the rest of model.Endpoint
    ports(proto, host_ip, host_port, endpoint_id, container_port)
    joining(endpoint_id, sandbox_id, network_id, interface, host_interface)
                                                        interfaces that are being made: one left here was made by a
                                                        process that was killed before it could write its endpoint
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import fields
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from rorqual.libnetwork.model import (
    Endpoint,
    EndpointID,
    Network,
    NetworkID,
    Pool,
    PublishedPort,
    SandboxConfig,
    SandboxID,
)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS networks(id TEXT PRIMARY KEY, name TEXT NOT NULL, created_s REAL NOT NULL,
    cursor INTEGER NOT NULL DEFAULT 0, cursor6 TEXT NOT NULL DEFAULT '0', spec TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sandboxes(id TEXT PRIMARY KEY, config TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS endpoints(id TEXT PRIMARY KEY, sandbox_id TEXT NOT NULL, network_id TEXT NOT NULL,
    ip TEXT, seq INTEGER NOT NULL, spec TEXT NOT NULL, UNIQUE(network_id, ip)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS endpoints_by_sandbox ON endpoints(sandbox_id);
CREATE TABLE IF NOT EXISTS ports(proto TEXT, host_ip TEXT, host_port INTEGER, endpoint_id TEXT NOT NULL,
    container_port INTEGER NOT NULL, PRIMARY KEY(proto, host_ip, host_port)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ports_by_endpoint ON ports(endpoint_id);
CREATE TABLE IF NOT EXISTS joining(endpoint_id TEXT PRIMARY KEY, sandbox_id TEXT NOT NULL, network_id TEXT NOT NULL,
    interface TEXT NOT NULL, host_interface TEXT NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 2;
"""
# 1 -> 2: IPv6. An offset within a /64 does not fit SQLite's integers, so it is text.
_FROM_1 = "ALTER TABLE networks ADD COLUMN cursor6 TEXT NOT NULL DEFAULT '0'"
_ENDPOINT_COLUMNS = ("id", "sandbox_id", "network_id", "ip", "ports")


class Store:
    """Every method that writes is one transaction."""

    def __init__(self, path: str) -> None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # sqlite gives the WAL the same mode
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        if self._db.execute("PRAGMA user_version").fetchone()[0] == 1:
            self._db.execute(_FROM_1)
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    # --- networks

    def put_network(self, network: Network) -> None:
        self._db.execute("PRAGMA synchronous=FULL")
        try:
            self._db.execute(
                "INSERT INTO networks(id, name, created_s, spec) VALUES(?, ?, ?, ?)"
                " ON CONFLICT(id) DO UPDATE SET name=excluded.name, spec=excluded.spec",
                (network.id, network.name, network.created_s, _dump(network, "id", "name", "created_s")),
            )
        finally:
            self._db.execute("PRAGMA synchronous=NORMAL")

    def delete_network(self, network_id: NetworkID) -> None:
        self._db.execute("DELETE FROM networks WHERE id=?", (network_id,))

    def networks(self) -> list[tuple[Network, int, int]]:
        """Each network with its allocators' cursors (IPv4, IPv6), oldest first."""
        rows = self._db.execute(
            "SELECT id, name, created_s, cursor, cursor6, spec FROM networks ORDER BY created_s, id"
        )
        return [
            (_network(NetworkID(ident), name, created_s, json.loads(spec)), cursor, int(cursor6))
            for ident, name, created_s, cursor, cursor6, spec in rows
        ]

    # --- sandboxes

    def put_sandbox(self, sandbox_id: SandboxID, config: SandboxConfig) -> None:
        self._db.execute("INSERT OR REPLACE INTO sandboxes VALUES(?, ?)", (sandbox_id, _dump(config)))

    def delete_sandbox(self, sandbox_id: SandboxID) -> None:
        """The sandbox with its endpoints and their ports."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            ours = "(SELECT id FROM endpoints WHERE sandbox_id=?)"
            self._db.execute(f"DELETE FROM ports WHERE endpoint_id IN {ours}", (sandbox_id,))
            self._db.execute("DELETE FROM endpoints WHERE sandbox_id=?", (sandbox_id,))
            self._db.execute("DELETE FROM sandboxes WHERE id=?", (sandbox_id,))

    def sandboxes(self) -> dict[SandboxID, SandboxConfig]:
        rows = self._db.execute("SELECT id, config FROM sandboxes")
        return {SandboxID(ident): _config(json.loads(config)) for ident, config in rows}

    # --- endpoints

    def put_joining(self, endpoint: Endpoint) -> None:
        """Its interface is about to be made."""
        self._db.execute(
            "INSERT OR REPLACE INTO joining VALUES(?, ?, ?, ?, ?)",
            (endpoint.id, endpoint.sandbox_id, endpoint.network_id, endpoint.interface, endpoint.host_interface),
        )

    def delete_joining(self, endpoint_id: EndpointID) -> None:
        self._db.execute("DELETE FROM joining WHERE endpoint_id=?", (endpoint_id,))

    def joining(self) -> list[Endpoint]:
        """Endpoints of which nothing is known but their interfaces."""
        return [
            Endpoint(EndpointID(i), "", NetworkID(n), "", SandboxID(s), interface, host_interface)
            for i, s, n, interface, host_interface in self._db.execute("SELECT * FROM joining")
        ]

    def put_endpoint(self, endpoint: Endpoint, cursor: int = 0, cursor6: int = 0) -> None:
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            sequence = "(SELECT COALESCE(MAX(seq), 0) + 1 FROM endpoints WHERE sandbox_id=?)"
            self._db.execute(
                f"INSERT INTO endpoints(id, sandbox_id, network_id, ip, seq, spec) VALUES(?, ?, ?, ?, {sequence}, ?)",
                (
                    endpoint.id,
                    endpoint.sandbox_id,
                    endpoint.network_id,
                    endpoint.ip or None,
                    endpoint.sandbox_id,
                    _dump(endpoint, *_ENDPOINT_COLUMNS),
                ),
            )
            self._put_ports(endpoint)
            self._db.execute("DELETE FROM joining WHERE endpoint_id=?", (endpoint.id,))
            self._db.execute(
                "UPDATE networks SET cursor=?, cursor6=? WHERE id=?", (cursor, str(cursor6), endpoint.network_id)
            )

    def update_endpoints(self, endpoints: Iterable[Endpoint]) -> None:
        """Ports and names of endpoints that are there already, in one transaction: a port that moves from one to
        another is never on both."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            changed = list(endpoints)
            for endpoint in changed:
                self._db.execute("DELETE FROM ports WHERE endpoint_id=?", (endpoint.id,))
                spec = _dump(endpoint, *_ENDPOINT_COLUMNS)
                self._db.execute("UPDATE endpoints SET spec=? WHERE id=?", (spec, endpoint.id))
            for endpoint in changed:
                self._put_ports(endpoint)

    def _put_ports(self, endpoint: Endpoint) -> None:
        self._db.executemany(
            "INSERT INTO ports VALUES(?, ?, ?, ?, ?)",
            [(p.proto, p.host_ip, p.host_port, endpoint.id, p.container_port) for p in endpoint.ports],
        )

    def delete_endpoint(self, endpoint_id: EndpointID) -> None:
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM ports WHERE endpoint_id=?", (endpoint_id,))
            self._db.execute("DELETE FROM endpoints WHERE id=?", (endpoint_id,))

    def endpoints(self) -> list[Endpoint]:
        """In the order they were joined, within each sandbox."""
        ports: dict[str, list[PublishedPort]] = {}
        rows = self._db.execute("SELECT endpoint_id, container_port, proto, host_ip, host_port FROM ports")
        for ident, container_port, proto, host_ip, host_port in rows:
            ports.setdefault(ident, []).append(PublishedPort(container_port, proto, host_ip, host_port))
        rows = self._db.execute("SELECT id, sandbox_id, network_id, ip, spec FROM endpoints ORDER BY sandbox_id, seq")
        return [
            _endpoint(EndpointID(i), SandboxID(s), NetworkID(n), ip or "", tuple(ports.get(i, ())), json.loads(spec))
            for i, s, n, ip, spec in rows
        ]

    def count(self) -> Mapping[str, int]:
        """Rows by table."""
        tables = ("networks", "sandboxes", "endpoints", "ports")
        return {t: int(self._db.execute(f"SELECT count(*) FROM {t}").fetchone()[0]) for t in tables}


def _plain(value: object) -> object:
    """What json cannot write as it is: addresses become text, mappings dicts."""
    if isinstance(value, IPv4Address | IPv4Network | IPv6Address | IPv6Network):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Pool):
        return [str(value.subnet), str(value.ip_range or ""), str(value.gateway or "")]
    raise TypeError(f"not storable: {value!r}")


def _dump(value: Network | Endpoint | SandboxConfig, *without: str) -> str:
    spec = {f.name: getattr(value, f.name) for f in fields(value) if f.name not in without}
    return json.dumps(spec, default=_plain, separators=(",", ":"))


_ADDRESSES: dict[str, Any] = {
    "subnet": IPv4Network,
    "ip_range": IPv4Network,
    "gateway": IPv4Address,
    "subnet6": IPv6Network,
    "ip_range6": IPv6Network,
    "gateway6": IPv6Address,
}


def _tuples(value: Any) -> Any:
    """JSON has lists where these values have tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _network(ident: NetworkID, name: str, created_s: float, spec: dict[str, Any]) -> Network:
    for key, kind in _ADDRESSES.items():
        spec[key] = kind(spec[key]) if spec.get(key) else None
    spec["more_pools"] = tuple(
        Pool(ip_network(subnet), ip_network(part) if part else None, ip_address(gateway) if gateway else None)
        for subnet, part, gateway in spec.get("more_pools", ())
    )
    return Network(id=ident, name=name, created_s=created_s, **{key: _tuples(value) for key, value in spec.items()})


def _config(spec: dict[str, Any]) -> SandboxConfig:
    return SandboxConfig(**{key: _tuples(value) for key, value in spec.items()})


def _endpoint(
    ident: EndpointID,
    sandbox: SandboxID,
    network: NetworkID,
    ip: str,
    ports: tuple[PublishedPort, ...],
    spec: dict[str, Any],
) -> Endpoint:
    plain = {key: _tuples(value) for key, value in spec.items()}
    return Endpoint(id=ident, sandbox_id=sandbox, network_id=network, ip=ip, ports=ports, **plain)
