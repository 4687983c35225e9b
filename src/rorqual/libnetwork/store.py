"""network.db: networks, sandboxes, endpoints, published ports. SQLite in WAL mode, used by one thread.

A commit is in the kernel's page cache when it returns (synchronous=NORMAL): it survives SIGKILL of this process at any
moment. It may be lost with the machine's power, and so are then the namespaces and containers it speaks of; networks,
which must outlive that, are committed with a sync.

    networks(id, name, created_s, cursor, spec)         spec: JSON of the rest of model.Network
    sandboxes(id, config)                               JSON of model.SandboxConfig
    endpoints(id, sandbox_id, network_id, ip, spec)     JSON of the rest of model.Endpoint
    ports(proto, host_ip, host_port, endpoint_id, container_port)
"""

import json
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import fields
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from rorqual.libnetwork.model import Endpoint, EndpointID, Network, NetworkID, PublishedPort, SandboxConfig, SandboxID

_SCHEMA = """
CREATE TABLE IF NOT EXISTS networks(id TEXT PRIMARY KEY, name TEXT NOT NULL, created_s REAL NOT NULL,
    cursor INTEGER NOT NULL DEFAULT 0, spec TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sandboxes(id TEXT PRIMARY KEY, config TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS endpoints(id TEXT PRIMARY KEY, sandbox_id TEXT NOT NULL, network_id TEXT NOT NULL,
    ip TEXT, seq INTEGER NOT NULL, spec TEXT NOT NULL, UNIQUE(network_id, ip)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS endpoints_by_sandbox ON endpoints(sandbox_id);
CREATE TABLE IF NOT EXISTS ports(proto TEXT, host_ip TEXT, host_port INTEGER, endpoint_id TEXT NOT NULL,
    container_port INTEGER NOT NULL, PRIMARY KEY(proto, host_ip, host_port)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ports_by_endpoint ON ports(endpoint_id);
PRAGMA user_version = 1;
"""


class Store:
    """Every method that writes is one transaction."""

    def __init__(self, path: str) -> None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # sqlite gives the WAL the same mode
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
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

    def networks(self) -> list[tuple[Network, int]]:
        """Each network with its allocator's cursor, oldest first."""
        rows = self._db.execute("SELECT id, name, created_s, cursor, spec FROM networks ORDER BY created_s, id")
        return [
            (_network(NetworkID(ident), name, created_s, json.loads(spec)), cursor)
            for ident, name, created_s, cursor, spec in rows
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

    def put_endpoint(self, endpoint: Endpoint, cursor: int) -> None:
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
                    _dump(endpoint, "id", "sandbox_id", "network_id", "ip", "ports"),
                ),
            )
            self._db.executemany(
                "INSERT INTO ports VALUES(?, ?, ?, ?, ?)",
                [(p.proto, p.host_ip, p.host_port, endpoint.id, p.container_port) for p in endpoint.ports],
            )
            self._db.execute("UPDATE networks SET cursor=? WHERE id=?", (cursor, endpoint.network_id))

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
    if isinstance(value, IPv4Address | IPv4Network):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"not storable: {value!r}")


def _dump(value: Network | Endpoint | SandboxConfig, *without: str) -> str:
    spec = {f.name: getattr(value, f.name) for f in fields(value) if f.name not in without}
    return json.dumps(spec, default=_plain, separators=(",", ":"))


def _network(ident: NetworkID, name: str, created_s: float, spec: dict[str, Any]) -> Network:
    for key in ("subnet", "ip_range"):
        spec[key] = IPv4Network(spec[key]) if spec.get(key) else None
    spec["gateway"] = IPv4Address(spec["gateway"]) if spec.get("gateway") else None
    return Network(id=ident, name=name, created_s=created_s, **spec)


def _config(spec: dict[str, Any]) -> SandboxConfig:
    spec["extra_hosts"] = tuple((name, address) for name, address in spec.get("extra_hosts", ()))
    for key in ("dns", "dns_search", "dns_options"):
        spec[key] = tuple(spec.get(key, ()))
    return SandboxConfig(**spec)


def _endpoint(
    ident: EndpointID,
    sandbox: SandboxID,
    network: NetworkID,
    ip: str,
    ports: tuple[PublishedPort, ...],
    spec: dict[str, Any],
) -> Endpoint:
    spec["aliases"] = tuple(spec.get("aliases", ()))
    spec["links"] = tuple((address, names) for address, names in spec.get("links", ()))
    spec["exposed_ports"] = tuple((port, proto) for port, proto in spec.get("exposed_ports", ()))
    return Endpoint(id=ident, sandbox_id=sandbox, network_id=network, ip=ip, ports=ports, **spec)
