"""A connection to a D-Bus daemon, or to systemd itself: calls, one at a time, and the signals that come in between.

Source: D-Bus Specification, "Authentication Protocol" and "Message Bus Specification"; sd_bus_open_system(3).
"""

from __future__ import annotations

import os
import select
import time

from rorqual import errdefs
from rorqual.runc.errors import reason
from rorqual.runc.systemd import message
from rorqual.runc.systemd.message import Message

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any, Self
else:
    import _socket as socket

_BUS, _BUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
_SYSTEM = "unix:path=/run/dbus/system_bus_socket"
_PRIVATE = "/run/systemd/private"  # root's own way to the manager, for a system without a D-Bus daemon
_TIMEOUT_S = 30.0
_LINE_MAX = 1024


class Failure(errdefs.Unavailable):
    """The other side answered with an error; `name` is the D-Bus error's."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text or name)
        self.name = name


class Bus:
    """An open connection, closed at the end of a `with`. `has_daemon`: others are on it too, by name."""

    def __init__(self, connected: socket.socket, *, has_daemon: bool) -> None:
        self._socket = connected
        self._has_daemon = has_daemon
        self._serial = 0
        self._waiting: list[Message] = []
        connected.settimeout(_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def authenticate(self) -> None:
        """As whoever this process is: the kernel vouches for it, whatever the user namespace calls that user."""
        self._send(b"\0AUTH EXTERNAL\r\n")
        line = self._line()
        if line == b"DATA":
            self._send(b"DATA\r\n")
            line = self._line()
        if not line.startswith(b"OK "):
            raise errdefs.PermissionDenied(f"D-Bus refused this user: {line.decode(errors='replace')}")
        self._send(b"BEGIN\r\n")
        if self._has_daemon:
            self.call(_BUS, _BUS_PATH, _BUS, "Hello")

    def subscribe(self, interface: str, member: str) -> None:
        """Have the daemon pass on these signals; without a daemon they come anyway."""
        if self._has_daemon:
            rule = f"type='signal',interface='{interface}',member='{member}'"
            self.call(_BUS, _BUS_PATH, _BUS, "AddMatch", "s", rule)

    def call(
        self, name: str, path: str, interface: str, member: str, signature: str = "", *body: Any
    ) -> tuple[Any, ...]:
        """The method's results. Raises: Failure, Unavailable."""
        self._serial += 1
        destination = name if self._has_daemon else ""
        self._send(message.call(self._serial, destination, path, interface, member, signature, body))
        answer = self._next(lambda m: m.reply_to == self._serial and m.type != message.SIGNAL, _TIMEOUT_S)
        if answer is None:
            raise errdefs.Unavailable("D-Bus did not answer in time")
        if answer.type == message.ERROR:
            text = answer.body[0] if answer.body and isinstance(answer.body[0], str) else ""
            raise Failure(answer.error, text)
        return answer.body

    def signal(
        self, interface: str, member: str, matches: Callable[[tuple[Any, ...]], bool], timeout_s: float
    ) -> tuple[Any, ...] | None:
        """The arguments of the first such signal, which may have come during an earlier call; None when none comes in
        time. Raises: Unavailable."""

        def wanted(m: Message) -> bool:
            return m.type == message.SIGNAL and (m.interface, m.member) == (interface, member) and matches(m.body)

        kept = next((m for m in self._waiting if wanted(m)), None)
        if kept is not None:
            self._waiting.remove(kept)
            return kept.body
        found = self._next(wanted, timeout_s)
        return found.body if found is not None else None

    def _next(self, wanted: Callable[[Message], bool], timeout_s: float) -> Message | None:
        """The first wanted message to come; signals among the others are kept."""
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            received = self._receive()
            if wanted(received):
                return received
            if received.type == message.SIGNAL:
                self._waiting.append(received)
        return None

    def _receive(self) -> Message:
        head = self._exactly(message.HEAD_SIZE)
        return message.decode_message(head + self._exactly(message.length(head) - len(head)))

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                chunk = self._socket.recv(size - len(data))
            except TimeoutError:
                raise errdefs.Unavailable("D-Bus did not answer in time") from None
            except OSError as e:
                raise errdefs.Unavailable(f"D-Bus connection is broken: {reason(e)}") from e
            if not chunk:
                raise errdefs.Unavailable("D-Bus connection was closed by the other side")
            data += chunk
        return bytes(data)

    def _line(self) -> bytes:
        """One of the authentication's lines, read byte by byte: messages follow the last."""
        line = bytearray()
        while not line.endswith(b"\r\n"):
            line += self._exactly(1)
            if len(line) > _LINE_MAX:
                raise errdefs.Unavailable("D-Bus answered with what is no D-Bus")
        return bytes(line[:-2])

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as e:
            raise errdefs.Unavailable(f"D-Bus connection is broken: {reason(e)}") from e


def open_system() -> Bus:
    """The system's bus; systemd's own socket where no daemon listens. Raises: Unavailable."""
    try:
        return _open(os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or _SYSTEM)
    except errdefs.Unavailable as no_daemon:
        try:
            return _connect(_PRIVATE, has_daemon=False)
        except errdefs.Unavailable:
            raise no_daemon from None


def open_user() -> Bus:
    """The bus of the user's own service manager. Raises: Unavailable."""
    address = os.environ.get("DBUS_SESSION_BUS_ADDRESS", "")
    if not address and os.environ.get("XDG_RUNTIME_DIR"):
        address = f"unix:path={os.environ['XDG_RUNTIME_DIR']}/bus"
    if not address:
        raise errdefs.Unavailable(
            "could not find the user's D-Bus: neither $DBUS_SESSION_BUS_ADDRESS nor $XDG_RUNTIME_DIR is set"
        )
    return _open(address)


def _open(addresses: str) -> Bus:
    """The first of the `;`-separated addresses that answers."""
    failure = errdefs.Unavailable(f"unsupported D-Bus address {addresses!r}")
    for address in addresses.split(";"):
        kind, _, rest = address.partition(":")
        members = dict(part.partition("=")[::2] for part in rest.split(","))
        path = members.get("path") or ("\0" + members["abstract"] if "abstract" in members else "")
        if kind != "unix" or not path:
            continue
        try:
            return _connect(path, has_daemon=True)
        except errdefs.Unavailable as e:
            failure = e
    raise failure


def _connect(path: str, *, has_daemon: bool) -> Bus:
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connected.connect(path)
    except OSError as e:
        connected.close()
        raise errdefs.Unavailable(f"dial unix {path}: connect: {reason(e)}") from e
    bus = Bus(connected, has_daemon=has_daemon)
    try:
        bus.authenticate()
    except BaseException:
        connected.close()
        raise
    return bus
