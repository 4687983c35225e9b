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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import chain

from rorqual import errdefs
from rorqual.libnetwork.model import ANY, ANY6, PortBinding, Proto, PublishedPort
from rorqual.libnetwork.socketowner import program_on

log = logging.getLogger(__name__)

Address = IPv4Address | IPv6Address

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
_BACKLOG = 1024
_DROP_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0)  # one BPF instruction: ret #0, keep no byte
_TYPES: dict[Proto, tuple[int, int]] = {
    "tcp": (socket.SOCK_STREAM, 0),
    "udp": (socket.SOCK_DGRAM, 0),
    "sctp": (socket.SOCK_STREAM, 132),
}


# No SCTP or IPv6 sockets here, or no fd to spare: not tested, but published all the same.
_CANNOT_TEST = (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EAFNOSUPPORT, errno.EMFILE, errno.ENFILE)


def shown(address: Address) -> str:
    """As it stands before a port."""
    return f"[{address}]" if address.version == 6 else str(address)


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
        self._taken: dict[_Key, dict[Address, str]] = {}
        self._held: dict[tuple[_Key, Address], socket.socket] = {}
        self._last: dict[Proto, int] = {}
        # Beyond a share of the fd limit ports are only tested, not held: the daemon needs fds for its clients.
        self._may_hold = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2

    def allocate(self, binding: PortBinding, addresses: Sequence[Address], owner: str) -> list[PublishedPort]:
        """Reserve a host port for `binding`, the same on each of `addresses`. `owner` is whom a later conflict names.

        Raises errdefs.InvalidArgument for what is no port, PortUnavailable with Docker's words when taken.
        """
        if binding.proto not in _TYPES:
            raise errdefs.InvalidArgument(f"invalid protocol in port binding: {binding.proto}")
        if not (0 < binding.container_port < 65536 and 0 <= binding.host_port < 65536):
            raise errdefs.InvalidArgument(f"invalid port in port binding: {binding.host_port}:{binding.container_port}")
        if binding.host_port and binding.host_port_end <= binding.host_port:
            port = binding.host_port
            self._take_all(_Key(binding.proto, port), addresses, owner)
        else:
            port = self._search(binding, addresses, owner)
        return [PublishedPort(binding.container_port, binding.proto, str(address), port) for address in addresses]

    def _search(self, binding: PortBinding, addresses: Sequence[Address], owner: str) -> int:
        if binding.host_port:
            order: Iterable[int] = range(binding.host_port, binding.host_port_end + 1)
        else:
            first, last = self._range or ephemeral_range()
            begin = self._last.get(binding.proto, first - 1) + 1
            begin = begin if first <= begin <= last else first
            order = chain(range(begin, last + 1), range(first, begin))
        failure: PortUnavailable | None = None
        for port in order:
            try:
                self._take_all(_Key(binding.proto, port), addresses, owner)
            except PortUnavailable as error:
                failure = error
                continue
            if not binding.host_port:
                self._last[binding.proto] = port
            return port
        if not binding.host_port or failure is None:
            raise PortUnavailable(f"Bind for {shown(addresses[0])}:0 failed: all ports are allocated")
        raise failure

    def _take_all(self, key: _Key, addresses: Sequence[Address], owner: str) -> None:
        taken: list[Address] = []
        try:
            for address in addresses:
                self._take(key, address, owner)
                taken.append(address)
        except BaseException:
            for address in taken:
                self._let_go(key, address)
            raise

    def restore(self, port: PublishedPort, owner: str, *, served: bool = False) -> None:
        """Take a port that has been published since before this process; one that others bound meanwhile is logged.
        `served`: a process of ours has its socket."""
        key, address = _Key(port.proto, port.host_port), ip_address(port.host_ip)
        self._taken.setdefault(key, {})[address] = owner
        if served:
            return
        try:
            self._hold(key, address)
        except PortUnavailable as error:
            log.warning(
                "published port %s:%d/%s is also bound by another program: %s", address, key.port, key.proto, error
            )

    def listener(self, port: PublishedPort) -> socket.socket:
        """A socket on a port that is taken, which now gets what is sent there; the caller's to pass on and close. From
        then on it is what keeps others off the port.

        Raises PortUnavailable when another program has it, OSError.
        """
        key, address = _Key(port.proto, port.host_port), ip_address(port.host_ip)
        sock = self._held.pop((key, address), None) or self._bound(key, address)
        if sock is None:
            raise PortUnavailable(f"no sockets of {port.proto} for {shown(address)}:{key.port}")
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
            if sock.type == socket.SOCK_STREAM:
                sock.listen(_BACKLOG)
        except BaseException:
            sock.close()
            raise
        return sock

    def rename(self, port: PublishedPort, owner: str) -> None:
        """Its owner is called otherwise."""
        key, address = _Key(port.proto, port.host_port), ip_address(port.host_ip)
        if address in self._taken.get(key, {}):
            self._taken[key][address] = owner

    def release(self, port: PublishedPort) -> None:
        """Give a port back; one that is not taken is no error."""
        self._let_go(_Key(port.proto, port.host_port), ip_address(port.host_ip))

    def _let_go(self, key: _Key, address: Address) -> None:
        held = self._held.pop((key, address), None)
        if held is not None:
            held.close()
        owners = self._taken.get(key)
        if owners is not None:
            owners.pop(address, None)
            if not owners:
                del self._taken[key]

    def close(self) -> None:
        """Let go of every held port (the daemon ends; the ports stay published)."""
        for held in self._held.values():
            held.close()
        self._held.clear()

    def _take(self, key: _Key, address: Address, owner: str) -> None:
        for other, whose in self._taken.get(key, {}).items():
            same = other == address or other in (ANY, ANY6) or address in (ANY, ANY6)
            if same and other.version == address.version:
                raise PortUnavailable(
                    f"Bind for {shown(address)}:{key.port} failed: port is already allocated (by {whose})"
                )
        self._hold(key, address)
        self._taken.setdefault(key, {})[address] = owner

    def _hold(self, key: _Key, address: Address) -> None:
        sock = self._bound(key, address)
        if sock is None:
            return
        if len(self._held) < self._may_hold:
            self._held[key, address] = sock
        else:
            sock.close()

    @staticmethod
    def _bound(key: _Key, address: Address) -> socket.socket | None:
        """A socket on the port, into which nothing comes; None where there are no such sockets to be had. Raises
        PortUnavailable."""
        kind, number = _TYPES[key.proto]
        try:
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            sock = socket.socket(family, kind | socket.SOCK_CLOEXEC, number)
        except OSError as error:
            if error.errno in _CANNOT_TEST:
                return None
            raise
        try:
            _drop_everything(sock)
            if address.version == 6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
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
            where = f"{key.proto}{address.version} {shown(address)}:{key.port}"
            program = program_on(key.proto, key.port) if error.errno == errno.EADDRINUSE else ""
            raise PortUnavailable(f"listen {where}: bind: {text}" + (f" (by {program})" if program else "")) from error
        return sock


def ipv6_can_listen() -> bool:
    """Whether programs of this host can be called by IPv6 at all."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
            sock.bind(("::", 0))
    except OSError:
        return False
    return True


def _drop_everything(sock: socket.socket) -> None:
    """Should a packet miss the rewriting (the table was flushed by someone), the client gets no false connection."""
    code = ctypes.create_string_buffer(_DROP_ALL)
    program = struct.pack("HP", 1, ctypes.addressof(code))  # struct sock_fprog
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
