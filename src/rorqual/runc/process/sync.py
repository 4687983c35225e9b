"""The handshake between the caller and a container's first process, over a SOCK_SEQPACKET pair.

    parent                      child (init)                       child (exec)
      | clone3(CLONE_NEW*)        |                                   |
      |-- mapped ---------------->|  only with a new user namespace    |
      |<------------------ hooks -|  only when there are hooks: namespaces and mounts are made, host's tree still there
      |-- go -------------------->|                                   |
      |<---------- ready (+ pty) -|  waits for start on the fifo      |<-- ready (+ pty)
      |                                                               |<-- end of file: execve has succeeded
      |<------- error, any time --|                                   |<-- error

Each message is one JSON object in one packet; `ready` may carry the terminal's master, `notify` a seccomp listener.
"""

from __future__ import annotations

import os
import struct

from rorqual.oci import jsontext
from rorqual.record import record
from rorqual.runc.errors import BY_NAME, Refusal, StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any, Self
else:
    import _socket as socket

MAPPED, HOOKS, GO, READY, ERROR, NOTIFY = "mapped", "hooks", "go", "ready", "error", "notify"

_PACKET_MAX = 65536
_FDS_MAX = 4


@record
class Message:
    """`fd`, when there is one, belongs to whoever received the message."""

    type: str
    body: dict[str, Any]
    fd: int | None = None


class End:
    """One end of the pair, closed at the end of a `with`. (The C module's socket: the other one imports `enum`.)"""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.fileno = connected.fileno
        self.close = connected.close
        self.sendmsg = connected.sendmsg
        self.recvmsg = connected.recvmsg

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def pair() -> tuple[End, End]:
    """The parent's end and the child's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    return End(ours), End(theirs)


def send(end: End, kind: str, fd: int | None = None, **body: Any) -> None:
    data = jsontext.dumps({"type": kind, **body}).encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))] if fd is not None else []
    end.sendmsg([data[:_PACKET_MAX]], rights, socket.MSG_NOSIGNAL)


def send_error(end: End, error: Refusal) -> None:
    send(end, ERROR, error=error.kind.__name__, text=str(error)[:8192])


def receive(end: End) -> Message | None:
    """The next message; None at end of file (the other end has exec'd, or died)."""
    data, ancillary, _, _ = end.recvmsg(_PACKET_MAX, socket.CMSG_SPACE(_FDS_MAX * 4), socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds += [fd for (fd,) in struct.iter_unpack("i", content[: len(content) - len(content) % 4])]
    for extra in fds[1:]:
        os.close(extra)
    if not data:
        return None
    body = jsontext.loads(data)
    return Message(body.pop("type"), body, fds[0] if fds else None)


def error_of(message: Message) -> StartError:
    """The exception that an `error` message means."""
    kind = BY_NAME.get(message.body.get("error", ""), StartError)
    return kind(f"unable to start container process: {message.body.get('text', '')}")
