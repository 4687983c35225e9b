"""Host ports: which one a binding gets, and keeping other programs off it.

A published port is packet rewriting in the kernel, so nothing need listen on it; but then another program could bind it
and wonder why no connection comes. While the daemon lives it therefore holds a bound socket on each published port
(with a filter that drops whatever would reach it). While the daemon is dead the rewriting goes on and nothing is held:
another program may bind the port then, and it is the container that gets the connections. On its next start the daemon
takes what it can get and says in the log what it could not.
"""

import ctypes
import errno
import logging
import os
import resource
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from rorqual import errdefs
from rorqual.libnetwork.model import ANY, PortBinding, Proto, PublishedPort

log = logging.getLogger(__name__)

SO_ATTACH_FILTER = 26
_DROP_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0)  # one BPF instruction: ret #0, keep no byte
_TYPES: dict[Proto, tuple[int, int]] = {
    "tcp": (socket.SOCK_STREAM, 0),
    "udp": (socket.SOCK_DGRAM, 0),
    "sctp": (socket.SOCK_STREAM, 132),
}


class PortUnavailable(errdefs.Internal):
    """A host port cannot be had. Internal, because Docker answers 500 here and clients know it so."""


@dataclass(frozen=True, slots=True)
class _Key:
    proto: Proto
    port: int


def ephemeral_range() -> tuple[int, int]:
    """The kernel's own range of local ports, (first, last)."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
            first, last = file.read().split()
        return int(first), int(last)
    except (OSError, ValueError):
        return 32768, 60999


class PortAllocator:
    """The ports of one engine. Used by one thread."""

    def __init__(self, port_range: tuple[int, int] | None = None) -> None:
        self._range = port_range
        self._taken: dict[_Key, set[IPv4Address]] = {}
        self._held: dict[tuple[_Key, IPv4Address], socket.socket] = {}
        self._last: dict[Proto, int] = {}
        # Beyond a share of the fd limit ports are only tested, not held: the daemon needs fds for its clients.
        self._may_hold = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2

    def allocate(self, binding: PortBinding, default_ip: IPv4Address) -> PublishedPort:
        """Reserve a host port for `binding`.

        Raises errdefs.InvalidArgument for an address that is none, PortUnavailable with Docker's words when taken.
        """
        try:
            address = IPv4Address(binding.host_ip) if binding.host_ip else default_ip
        except ValueError as error:
            raise errdefs.InvalidArgument(f"invalid IP address in port binding: {binding.host_ip}") from error
        if binding.proto not in _TYPES:
            raise errdefs.InvalidArgument(f"invalid protocol in port binding: {binding.proto}")
        if not (0 < binding.container_port < 65536 and 0 <= binding.host_port < 65536):
            raise errdefs.InvalidArgument(f"invalid port in port binding: {binding.host_port}:{binding.container_port}")
        if binding.host_port and binding.host_port_end <= binding.host_port:
            self._take(_Key(binding.proto, binding.host_port), address)
            port = binding.host_port
        else:
            port = self._search(binding, address)
        return PublishedPort(binding.container_port, binding.proto, str(address), port)

    def _search(self, binding: PortBinding, address: IPv4Address) -> int:
        if binding.host_port:
            order: Iterable[int] = range(binding.host_port, binding.host_port_end + 1)
        else:
            first, last = self._range or ephemeral_range()
            begin = self._last.get(binding.proto, first - 1) + 1
            begin = begin if first <= begin <= last else first
            order = [*range(begin, last + 1), *range(first, begin)]
        failure: PortUnavailable | None = None
        for port in order:
            try:
                self._take(_Key(binding.proto, port), address)
            except PortUnavailable as error:
                failure = error
                continue
            if not binding.host_port:
                self._last[binding.proto] = port
            return port
        if not binding.host_port or failure is None:
            raise PortUnavailable(f"Bind for {address}:0 failed: all ports are allocated")
        raise failure

    def restore(self, port: PublishedPort) -> None:
        """Take a port that has been published since before this process; one that others bound meanwhile is logged."""
        key, address = _Key(port.proto, port.host_port), IPv4Address(port.host_ip)
        self._taken.setdefault(key, set()).add(address)
        try:
            self._hold(key, address)
        except PortUnavailable as error:
            log.warning(
                "published port %s:%d/%s is also bound by another program: %s", address, key.port, key.proto, error
            )

    def release(self, port: PublishedPort) -> None:
        """Give a port back; one that is not taken is no error."""
        key, address = _Key(port.proto, port.host_port), IPv4Address(port.host_ip)
        held = self._held.pop((key, address), None)
        if held is not None:
            held.close()
        owners = self._taken.get(key)
        if owners is not None:
            owners.discard(address)
            if not owners:
                del self._taken[key]

    def close(self) -> None:
        """Let go of every held port (the daemon ends; the ports stay published)."""
        for held in self._held.values():
            held.close()
        self._held.clear()

    def _take(self, key: _Key, address: IPv4Address) -> None:
        owners = self._taken.get(key)
        if owners and (address == ANY or ANY in owners or address in owners):
            raise PortUnavailable(f"Bind for {address}:{key.port} failed: port is already allocated")
        self._hold(key, address)
        self._taken.setdefault(key, set()).add(address)

    def _hold(self, key: _Key, address: IPv4Address) -> None:
        kind, number = _TYPES[key.proto]
        try:
            sock = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC, number)
        except OSError as error:
            if error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EMFILE, errno.ENFILE):
                return  # no SCTP sockets here, or no fd to spare: untested, but published all the same
            raise
        try:
            _drop_everything(sock)
            if kind == socket.SOCK_STREAM:
                # As Docker's proxy does: TIME_WAIT must not keep the port. Listening is what then excludes others.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((str(address), key.port))
            if kind == socket.SOCK_STREAM:
                sock.listen(0)
        except OSError as error:
            sock.close()
            text = os.strerror(error.errno or 0)
            text = text[:1].lower() + text[1:]  # as Go spells errnos
            raise PortUnavailable(f"listen {key.proto}4 {address}:{key.port}: bind: {text}") from error
        if len(self._held) < self._may_hold:
            self._held[key, address] = sock
        else:
            sock.close()


def _drop_everything(sock: socket.socket) -> None:
    """Should a packet miss the rewriting (the table was flushed by someone), the client gets no false connection."""
    code = ctypes.create_string_buffer(_DROP_ALL)
    program = struct.pack("HP", 1, ctypes.addressof(code))  # struct sock_fprog
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
