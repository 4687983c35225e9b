"""The client of a shim's stream socket: hands a client's connection over. Protocol: docs/architecture.md.

Used by rorquald, on its event loop; a request is one small datagram each way.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rorqual import errdefs
from rorqual.rpc import unixsock

_ANSWER_MAX = 64 * 1024
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Attach:
    """What a client wants of a process's streams. `early`: bytes it sent before the hand-over."""

    exec_id: str = ""
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    logs: bool = False
    tty: bool = False
    detach_keys: str = ""
    early: bytes = b""
    mux: bool = False

    def to_json(self) -> dict[str, Any]:
        """The request's body."""
        return {
            "op": "attach",
            "exec_id": self.exec_id,
            "stdin": self.stdin,
            "stdout": self.stdout,
            "stderr": self.stderr,
            "logs": self.logs,
            "tty": self.tty,
            "detach_keys": self.detach_keys,
            "early": base64.b64encode(self.early).decode(),
            "mux": self.mux,
        }


class StreamSocket:
    """One connection to a shim's stream socket. Use as a context manager."""

    def __init__(self, path: Path | str) -> None:
        """Connect to `<bundle>/stream.sock`. Raises Unavailable when no shim listens there."""
        try:
            self._sock = unixsock.connect(path, socket.SOCK_SEQPACKET)
        except OSError as e:
            raise errdefs.Unavailable(f"shim at {path}: {e.strerror}") from e
        self._sock.setblocking(False)

    def __enter__(self) -> StreamSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; attached clients stay attached."""
        self._sock.close()

    async def attach(self, request: Attach, connection_fd: int) -> int:
        """Hand `connection_fd` over (a copy: the caller closes its own); the attach's number.

        Raises InvalidArgument (detach keys), NotFound (no such process), Conflict, Unavailable.
        """
        answer = await self._ask(request.to_json(), [connection_fd])
        return int(answer["attach"])

    async def wait_attach(self, number: int) -> str:
        """Why the attach ended, once it has: "detached", "eof" or "closed"."""
        answer = await self._ask({"op": "wait-attach", "attach": number}, timeout_s=None)
        return str(answer["reason"])

    async def info(self, exec_id: str = "") -> dict[str, Any]:
        """{"pid", "attached", "running"} of a process."""
        return await self._ask({"op": "info", "exec_id": exec_id})

    async def _ask(
        self, request: dict[str, Any], fds: list[int] | None = None, *, timeout_s: float | None = _TIMEOUT_S
    ) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        try:
            # a fresh connection's buffer takes one datagram of at most 64 KiB without blocking
            socket.send_fds(self._sock, [json.dumps(request).encode()], fds or [])
            async with asyncio.timeout(timeout_s):
                data = await loop.sock_recv(self._sock, _ANSWER_MAX)
        except TimeoutError as e:
            raise errdefs.DeadlineExceeded(f"shim: no answer to {request['op']} in {timeout_s} s") from e
        except OSError as e:
            raise errdefs.Unavailable(f"shim: {e.strerror}") from e
        if not data:
            raise errdefs.Unavailable("shim: connection closed")
        answer: dict[str, Any] = json.loads(data)
        if "error" in answer:
            kind = getattr(errdefs, str(answer.get("code")), errdefs.Error)
            raise (kind if isinstance(kind, type) and issubclass(kind, errdefs.Error) else errdefs.Error)(
                answer["error"]
            )
        return answer
