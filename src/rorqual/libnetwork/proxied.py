"""The daemon's side of `portproxy`: which ports it is to serve, and their sockets. Used by the engine's threads."""

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Protocol, TypeVar

from rorqual import errdefs
from rorqual.libnetwork.model import PublishedPort
from rorqual.libnetwork.ports import PortAllocator

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Proxied:
    """Who calls `port` is connected with `target` by the process."""

    port: PublishedPort
    target: IPv4Address | IPv6Address

    @property
    def key(self) -> str:
        """What the process calls it: another target is another key."""
        port = self.port
        return f"{port.proto} [{port.host_ip}]:{port.host_port} [{self.target}]:{port.container_port}"


class Process(Protocol):
    """The connection to the process."""

    @property
    def connected(self) -> bool: ...

    @property
    def known_ports(self) -> Collection[str]:
        """The keys of what it served when it was connected with."""
        ...

    def ensure(self) -> bool:
        """Whether it was connected with already; else it is now, started if need be, and was told all that is wanted
        (`PortProxies.sync`). Raises errdefs.Internal where it cannot be had."""
        ...

    def order(self, order: dict[str, Any], fds: list[int], *, awaited: bool = False) -> None:
        """Tell it; `awaited`: it has been done on return. Raises errdefs.Unavailable when it has ended, Internal when
        it does not answer."""
        ...


class PortProxies:
    """The ports that the process serves."""

    def __init__(self, process: Process, ports: PortAllocator) -> None:
        self._process, self._ports = process, ports
        self._wanted: dict[str, Proxied] = {}
        self._restored = False

    def __bool__(self) -> bool:
        return bool(self._wanted)

    def put(self, proxied: Iterable[Proxied]) -> None:
        """Serve them too. A failure is said in the log: the port's other clients need no process."""
        for one in proxied:
            self._wanted[one.key] = one
            self._guarded(self._tell, one)

    def drop(self, proxied: Iterable[Proxied]) -> None:
        """Serve them no more; their host ports are free on return. Those that are not served are passed over."""
        keys = [one.key for one in proxied if self._wanted.pop(one.key, None) is not None]
        if keys and self._process.connected:
            self._guarded(self._drop, keys)

    def restore(self, proxied: Iterable[Proxied]) -> None:
        """At the daemon's start: those are all there are."""
        self._wanted = {one.key: one for one in proxied}
        self._restored = True
        if self._process.connected:
            self.sync()
        elif self._wanted:
            self._guarded(lambda _: self._process.ensure(), None)

    def sync(self) -> None:
        """Have the process, which was connected with just now, serve what is wanted and nothing else. Before `restore`
        nothing is known of what is wanted, and nothing is done."""
        if not self._restored:
            return
        known = self._process.known_ports
        foreign = [key for key in known if key not in self._wanted]
        if foreign:
            self._guarded(self._drop, foreign)
        for key, one in self._wanted.items():
            if key not in known:
                self._guarded(self._tell, one)

    def _tell(self, one: Proxied) -> None:
        if not self._process.ensure():
            return
        port = one.port
        target = [str(one.target), port.container_port]
        order = {"op": "port", "key": one.key, "proto": port.proto, "target": target}
        try:
            with self._ports.listener(port) as sock:
                self._process.order(order, [sock.fileno()])
        except errdefs.Unavailable:
            self._process.ensure()

    def _drop(self, keys: list[str]) -> None:
        try:
            self._process.order({"op": "drop-ports", "keys": keys}, [], awaited=True)
        except errdefs.Unavailable:
            if self._wanted:
                self._process.ensure()

    @staticmethod
    def _guarded(action: Callable[[T], object], argument: T) -> None:
        try:
            action(argument)
        except (OSError, errdefs.Error) as error:
            log.error("published ports are not served for clients of the other IP version: %s", error)


def proxied(
    ports: Iterable[PublishedPort], own: dict[int, IPv4Address | IPv6Address], *, everything: bool = False
) -> list[Proxied]:
    """Those of an endpoint's published ports that the kernel cannot do, or not for all clients: those of the IP version
    that the endpoint has no address of, and [::1], from where the kernel routes nothing. `own` are its addresses by IP
    version. With `everything` all of them."""
    found = []
    for port in ports:
        address = ip_address(port.host_ip)
        wanted = address.version not in own
        wanted |= address.version == 6 and (address.is_loopback or address.is_unspecified)
        if (wanted or everything) and port.proto != "sctp" and own:
            target = own.get(address.version) or next(iter(own.values()))
            found.append(Proxied(port, target))
    return found
