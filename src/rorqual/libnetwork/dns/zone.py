"""Who is called what on which network, and what each sandbox may see of it. No I/O: the server feeds it.

A sandbox sees the names of its own networks and nothing of others. On each network, in the order they were joined, its
own links come first, then names; of a name that several endpoints have, all addresses are given, in another order each
time. `name.network` means that name on that network. A name that is known has no other records than its addresses:
questions for those are answered with none, and never leave the machine.
"""

import socket

from rorqual.libnetwork.dns import message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    JSON = dict[str, Any]


class Network:
    """The names of one network."""

    __slots__ = ("endpoints", "name", "names", "reverse")

    def __init__(self, name: str) -> None:
        self.name = name.lower()
        self.endpoints: dict[str, JSON] = {}
        self.names: dict[str, dict[str, tuple[bytes, bytes]]] = {}  # name -> endpoint id -> addresses (4, 16 bytes)
        self.reverse: dict[bytes, str] = {}

    def put(self, endpoint_id: str, entry: "JSON") -> None:
        """An endpoint; `entry` has `names` (the first is its own), `ip` and `ip6` ("" for none)."""
        self.drop(endpoint_id)
        four = socket.inet_pton(socket.AF_INET, entry["ip"]) if entry["ip"] else b""
        six = socket.inet_pton(socket.AF_INET6, entry["ip6"]) if entry["ip6"] else b""
        self.endpoints[endpoint_id] = entry
        for name in entry["names"]:
            self.names.setdefault(name.lower(), {})[endpoint_id] = (four, six)
        for address in (four, six):
            if address and entry["names"]:
                self.reverse[address] = entry["names"][0]

    def drop(self, endpoint_id: str) -> None:
        entry = self.endpoints.pop(endpoint_id, None)
        if entry is None:
            return
        for name in entry["names"]:
            holders = self.names.get(name.lower())
            if holders is not None:
                holders.pop(endpoint_id, None)
                if not holders:
                    del self.names[name.lower()]
        for family, key in ((socket.AF_INET, "ip"), (socket.AF_INET6, "ip6")):
            if entry[key]:
                self.reverse.pop(socket.inet_pton(family, entry[key]), None)


class View:
    """What a sandbox may ask about: its networks, in order, and its private names for others on each (links)."""

    __slots__ = ("forward", "links", "networks", "servers")

    def __init__(self, entry: "JSON") -> None:
        self.networks: list[str] = entry["networks"]
        self.links: dict[str, dict[str, str]] = entry["links"]
        self.servers: list[tuple[str, bool]] = [(address, bool(host)) for address, host in entry["servers"]]
        self.forward = bool(entry["forward"])


class Directory:
    """Every network's names."""

    def __init__(self) -> None:
        self.networks: dict[str, Network] = {}
        self._turn = 0

    def put(self, network_id: str, network_name: str, endpoint_id: str, entry: "JSON") -> None:
        network = self.networks.get(network_id)
        if network is None:
            network = self.networks[network_id] = Network(network_name)
        network.put(endpoint_id, entry)

    def drop(self, network_id: str, endpoint_id: str) -> None:
        network = self.networks.get(network_id)
        if network is not None:
            network.drop(endpoint_id)
            if not network.endpoints:
                del self.networks[network_id]

    def lookup(self, view: View, name: str) -> "list[tuple[bytes, bytes]] | None":
        """The addresses of a name as this sandbox sees it, None for a name that is not ours."""
        for network_id in view.networks:
            network = self.networks.get(network_id)
            found = self._on(view, network_id, network, name) if network is not None else None
            if found is not None:
                return found
        at = name.find(".")
        while at > 0:
            rest = name[at + 1 :]
            for network_id in view.networks:
                network = self.networks.get(network_id)
                if network is not None and network.name == rest:
                    found = self._on(view, network_id, network, name[:at])
                    if found is not None:
                        return found
            at = name.find(".", at + 1)
        return None

    @staticmethod
    def _on(view: View, network_id: str, network: Network, name: str) -> "list[tuple[bytes, bytes]] | None":
        link = view.links.get(network_id, {}).get(name)
        if link is not None:
            name = link
        holders = network.names.get(name)
        return list(holders.values()) if holders is not None else None

    def resolve(self, view: View, query: message.Query) -> "list[bytes] | None":
        """The data of the records that answer it, possibly none; None when it is about something else."""
        if query.qclass != message.IN:
            return None
        if query.qtype == message.PTR:
            address = message.reverse_address(query.name)
            return self._pointer(view, address) if address is not None else None
        found = self.lookup(view, query.name)
        if found is None:
            return None
        if query.qtype == message.A:
            addresses = [four for four, _six in found if four]
        elif query.qtype == message.AAAA:
            addresses = [six for _four, six in found if six]
        else:
            return []
        if len(addresses) > 1:
            self._turn = (self._turn + 1) % 0xFFFF
            start = self._turn % len(addresses)
            addresses = addresses[start:] + addresses[:start]
        return addresses

    def _pointer(self, view: View, address: bytes) -> "list[bytes] | None":
        for network_id in view.networks:
            network = self.networks.get(network_id)
            name = network.reverse.get(address) if network is not None else None
            if network is not None and name is not None:
                try:
                    return [message.encode_name(f"{name}.{network.name}")]
                except ValueError:
                    return []  # containers may be called what DNS cannot say
        return None
