"""journald: systemd's native protocol, one datagram an entry; an entry too long for one goes as a sealed file.

Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/, https://docs.docker.com/engine/logging/drivers/journald/
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import struct

from rorqual.errdefs import InvalidArgument
from rorqual.shim.logdrivers.json_file import rfc3339
from rorqual.shim.logdrivers.remote import Info, Line
from rorqual.shim.logdrivers.sender import Sender, connect_unix
from rorqual.shim.loop import Loop

SOCKET = "/run/systemd/journal/socket"
_PRIORITY = {"stdout": b"6", "stderr": b"3"}

# Written for each entry, and "" for a key that is no name.
_MEANT = frozenset({"", "MESSAGE", "PRIORITY", "SYSLOG_TIMESTAMP", "CONTAINER_LOG_ORDINAL"})


class Journald:
    """Makes entries."""

    def __init__(self, info: Info) -> None:
        self._ordinal = 0
        # What the image chose (labels, variables) comes first and under no name that has a meaning of its own.
        chosen = {name: value for key, value in info.attrs.items() if (name := field_name(key)) not in _MEANT}
        fields = chosen | {
            "CONTAINER_ID": info.id[:12],
            "CONTAINER_ID_FULL": info.id,
            "CONTAINER_NAME": info.name,
            "CONTAINER_TAG": info.tag,
            "IMAGE_NAME": info.image,
            "SYSLOG_IDENTIFIER": info.tag,
            "CONTAINER_LOG_EPOCH": secrets.token_hex(32),
        }
        self._fixed = b"".join(_field(name, value.encode()) for name, value in fields.items())

    def encode(self, line: Line) -> list[bytes]:
        """See Encoder."""
        self._ordinal += 1
        entry = [
            _field("MESSAGE", line.text),
            _field("PRIORITY", _PRIORITY[line.stream]),
            self._fixed,
            _field("SYSLOG_TIMESTAMP", rfc3339(line.time_ns).encode()),
            _field("CONTAINER_LOG_ORDINAL", b"%d" % self._ordinal),
        ]
        if line.partial is not None:
            entry.append(_field("CONTAINER_PARTIAL_ID", line.partial.id.encode()))
            entry.append(_field("CONTAINER_PARTIAL_ORDINAL", b"%d" % line.partial.ordinal))
            entry.append(_field("CONTAINER_PARTIAL_LAST", b"true" if line.partial.last else b"false"))
            if not line.partial.last:
                entry.append(_field("CONTAINER_PARTIAL_MESSAGE", b"true"))
        return [b"".join(entry)]


def _field(name: str, value: bytes) -> bytes:
    if b"\n" in value:
        return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    return name.encode() + b"=" + value + b"\n"


def field_name(key: str) -> str:
    """`key` as a journal field: capitals, digits and underscores, not beginning with one."""
    return "".join(c.upper() if c.isascii() and c.isalnum() else "_" for c in key).lstrip("_")


class _JournalSocket(socket.socket):
    """A datagram socket that hands over what is too long for a datagram as a sealed memory file."""

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
        try:
            return super().send(data, flags)
        except OSError as e:
            if e.errno not in (90, 105):  # EMSGSIZE, ENOBUFS
                raise
        fd = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.write(fd, data)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
            socket.send_fds(self, [b""], [fd])
        finally:
            os.close(fd)
        return len(data)


def sender(loop: Loop, path: str = SOCKET) -> Sender:
    """Raises InvalidArgument where there is no journald."""
    if not os.path.exists(path):
        raise InvalidArgument("journald is not enabled on this host")

    def connect() -> socket.socket:
        plain = connect_unix(path, socket.SOCK_DGRAM)
        return _JournalSocket(fileno=plain.detach())

    return Sender(loop, connect, datagrams=True)
