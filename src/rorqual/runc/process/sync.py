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

import array
import json
import os
import socket
from dataclasses import dataclass
from typing import Any

from rorqual.runc.errors import BY_NAME, Refusal, StartError

MAPPED, HOOKS, GO, READY, ERROR, NOTIFY = "mapped", "hooks", "go", "ready", "error", "notify"

_PACKET_MAX = 65536
_FDS_MAX = 4


@dataclass(frozen=True, slots=True)
class Message:
    """`fd`, when there is one, belongs to whoever received the message."""

    type: str
    body: dict[str, Any]
    fd: int | None = None


def pair() -> tuple[socket.socket, socket.socket]:
    """The parent's end and the child's."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def send(end: socket.socket, kind: str, fd: int | None = None, **body: Any) -> None:
    data = json.dumps({"type": kind, **body}).encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd is not None else []
    end.sendmsg([data[:_PACKET_MAX]], rights, socket.MSG_NOSIGNAL)


def send_error(end: socket.socket, error: Refusal) -> None:
    send(end, ERROR, error=error.kind.__name__, text=str(error)[:8192])


def receive(end: socket.socket) -> Message | None:
    """The next message; None at end of file (the other end has exec'd, or died)."""
    data, ancillary, _, _ = end.recvmsg(_PACKET_MAX, socket.CMSG_SPACE(_FDS_MAX * 4), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    for extra in fds[1:]:
        os.close(extra)
    if not data:
        return None
    body = json.loads(data)
    return Message(body.pop("type"), body, fds[0] if fds else None)


def error_of(message: Message) -> StartError:
    """The exception that an `error` message means."""
    kind = BY_NAME.get(message.body.get("error", ""), StartError)
    return kind(f"unable to start container process: {message.body.get('text', '')}")
