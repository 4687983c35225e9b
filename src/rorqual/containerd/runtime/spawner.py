"""The client of the spawner, the warm process that forks shims; started here, and again whenever it dies.

One SEQPACKET datagram with one fd is one shim (docs/architecture.md). Nothing is answered: containerd writes its first
ttrpc request right behind it, and a shim that cannot start closes its connection.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from rorqual.containerd.runtime.pidfd import ended_child
from rorqual.errdefs import Unavailable
from rorqual.rpc import unixsock

log = logging.getLogger(__name__)

_READY_TIMEOUT_S = 20.0
_POLL_S = 0.005
_RESTART_PAUSE_S = 0.2


class Spawner:
    """`serve` keeps it running; its owner awaits that task."""

    def __init__(self, socket_path: str, ttrpc_address: str, command: Sequence[str] = ()) -> None:
        self._path = socket_path
        self._command = [
            *(command or (sys.executable, "-m", "rorqual.shim.spawner", "--parent", str(os.getpid()))),
            "--socket",
            socket_path,
            "--containerd",
            ttrpc_address,
        ]
        self._socket: socket.socket | None = None
        self._ready = asyncio.Event()

    async def serve(self) -> None:
        """Start it, and restart it when it dies, until cancelled."""
        while True:
            with suppress(FileNotFoundError):
                os.unlink(self._path)  # a predecessor's: it ends with its containerd, but maybe not yet
            # from the main thread: the spawner asks for a signal when the thread that started it ends
            process = self._start()
            try:
                await self._connect(process)
                await ended_child(process.pid)
                process.wait()
                log.warning("spawner (pid %d) ended with %s: starting another", process.pid, process.returncode)
            except (OSError, TimeoutError) as e:
                log.warning("spawner does not start: %s", e)
            finally:
                self._disconnect()
                if process.poll() is None:
                    process.terminate()
            await asyncio.sleep(_RESTART_PAUSE_S)

    async def spawn(self, ns: str, container_id: str, bundle: str) -> socket.socket:
        """Our end of the new shim's first ttrpc connection. Raises Unavailable when there is no spawner."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            message = json.dumps({"ns": ns, "id": container_id, "bundle": bundle}).encode()
            try:
                await self._send(message, theirs.fileno())
            except BaseException:
                ours.close()
                raise
        return ours

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdin=subprocess.DEVNULL, start_new_session=True)

    async def _send(self, message: bytes, fd: int) -> None:
        for _attempt in range(2):
            if not self._ready.is_set():
                try:
                    async with asyncio.timeout(_READY_TIMEOUT_S):
                        await self._ready.wait()
                except TimeoutError as e:
                    raise Unavailable("the spawner does not start; see containerd's log") from e
            sock = self._socket
            assert sock is not None
            try:
                while True:
                    try:
                        socket.send_fds(sock, [message], [fd])
                        return
                    except BlockingIOError:
                        await asyncio.sleep(_POLL_S)  # hundreds of datagrams are ahead of this one
            except OSError:
                self._disconnect()  # it has just died; the next round waits for its successor
        raise Unavailable("the spawner died twice in a row")

    async def _connect(self, process: subprocess.Popen[bytes]) -> None:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while True:
                if process.poll() is not None:
                    raise OSError(f"{' '.join(self._command[:3])} ended with {process.returncode}")
                try:
                    sock = unixsock.connect(self._path, socket.SOCK_SEQPACKET)
                    break
                except (FileNotFoundError, ConnectionRefusedError):
                    await asyncio.sleep(_POLL_S)
        sock.setblocking(False)
        self._socket = sock
        self._ready.set()

    def _disconnect(self) -> None:
        self._ready.clear()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
