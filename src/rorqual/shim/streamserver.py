"""The stream socket: connections of clients are handed to the shim here. Protocol: docs/architecture.md."""

from __future__ import annotations

import binascii
import json
import os
import socket
import struct
from itertools import count

from rorqual import errdefs
from rorqual.shim.detach import DEFAULT_KEYS, parse_keys
from rorqual.shim.loop import IN, Loop
from rorqual.shim.stdio import STDERR, STDOUT, Client, Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol
else:
    Protocol = object

_REQUEST_MAX = 64 * 1024
_PEERCRED = struct.Struct("iII")
_REASONS_KEPT = 256


class StreamTarget(Protocol):
    """What the stream socket needs of a process."""

    stdio: Stdio | None
    pid: int

    @property
    def running(self) -> bool:
        """Started and not ended."""


class StreamServer:
    """Serves the listening SOCK_SEQPACKET socket, which it takes over. `find(exec_id)` raises NotFound."""

    def __init__(self, loop: Loop, sock: socket.socket, find: Callable[[str], StreamTarget]) -> None:
        self._loop = loop
        self._sock = sock
        self._find = find
        self._serial = count(1)
        self._clients: dict[int, Client] = {}
        self._reasons: dict[int, str] = {}
        sock.setblocking(False)
        loop.add(sock.fileno(), IN, self._accept)

    def close(self) -> None:
        """Stop listening."""
        self._loop.remove(self._sock.fileno())
        self._sock.close()

    def _accept(self, _events: int) -> None:
        try:
            connection, _ = self._sock.accept()
        except BlockingIOError:
            return
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
        if _PEERCRED.unpack(credentials)[1] != os.geteuid():
            connection.close()
            return
        connection.setblocking(False)
        self._loop.add(connection.fileno(), IN, lambda _events: self._request(connection))

    def _request(self, connection: socket.socket) -> None:
        try:
            data, fds, flags, _ = socket.recv_fds(connection, _REQUEST_MAX, 1)
        except BlockingIOError:
            return
        except OSError:
            data, fds, flags = b"", [], 0
        if not data:
            self._loop.remove(connection.fileno())
            connection.close()
            return
        try:
            if flags & socket.MSG_TRUNC:
                raise errdefs.InvalidArgument(f"request of more than {_REQUEST_MAX} bytes")
            self._handle(connection, json.loads(data), fds)
        except (errdefs.Error, ValueError, KeyError, TypeError) as e:
            _answer(connection, {"error": str(e), "code": type(e).__name__})
        finally:
            for fd in fds:  # those that a client took over were taken from the list
                os.close(fd)

    def _handle(self, connection: socket.socket, request: dict[str, Any], fds: list[int]) -> None:
        op = request["op"]
        if op == "attach":
            _answer(connection, {"ok": True, "attach": self._attach(request, fds)})
        elif op == "wait-attach":
            self._wait(connection, int(request["attach"]))
        elif op == "info":
            target = self._find(request.get("exec_id", ""))
            attached = len(target.stdio.clients) if target.stdio else 0
            _answer(connection, {"ok": True, "pid": target.pid, "attached": attached, "running": target.running})
        else:
            raise errdefs.InvalidArgument(f"unknown op {op!r}")

    def _attach(self, request: dict[str, Any], fds: list[int]) -> int:
        target = self._find(request.get("exec_id", ""))
        if target.stdio is None:
            raise errdefs.Conflict("the process's streams are not the shim's")
        if not fds:
            raise errdefs.InvalidArgument("attach: no connection was passed")
        keys = parse_keys(request.get("detach_keys") or DEFAULT_KEYS) if request.get("tty") else b""
        early = binascii.a2b_base64(request.get("early") or "")
        wanted = {STDOUT: request.get("stdout"), STDERR: request.get("stderr")}
        fd = fds.pop()
        client = Client(
            target.stdio,
            fd,
            fd,
            streams=frozenset(stream for stream, on in wanted.items() if on),
            stdin=bool(request.get("stdin")),
            mux=bool(request.get("mux")),
            detach_keys=keys,
        )
        number = next(self._serial)
        self._clients[number] = client
        client.on_end.append(lambda reason: self._ended(number, reason))
        if request.get("logs"):
            target.stdio.replay_log(client)
        target.stdio.attach(client)
        if early:
            client.receive(early)
        return number

    def _ended(self, number: int, reason: str) -> None:
        self._clients.pop(number, None)
        self._reasons[number] = reason
        while len(self._reasons) > _REASONS_KEPT:
            del self._reasons[next(iter(self._reasons))]

    def _wait(self, connection: socket.socket, number: int) -> None:
        client = self._clients.get(number)
        if client is not None:
            client.on_end.append(lambda reason: _answer(connection, {"ok": True, "reason": reason}))
        elif number in self._reasons:
            _answer(connection, {"ok": True, "reason": self._reasons[number]})
        else:
            raise errdefs.NotFound(f"no attach {number}")


def _answer(connection: socket.socket, message: dict[str, Any]) -> None:
    try:
        connection.send(json.dumps(message).encode())
    except OSError:
        return  # the asker went away; its connection's end is handled where it is read
