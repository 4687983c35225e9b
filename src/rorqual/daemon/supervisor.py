"""Keeps a rorqual-containerd running: adopts one that answers, starts one otherwise, again whenever it dies.

It is started in its own session, so it outlives the daemon; an address given by the operator is only adopted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from rorqual.errdefs import Unavailable
from rorqual.rpc import unixsock
from rorqual.version import __version__

log = logging.getLogger(__name__)

_MODULE = "rorqual.containerd.main"
_START_TIMEOUT_S = 60.0  # it looks at every container's shim first
_ANOTHER_S = 0.1


class Supervisor:
    """`ensure()` returns once containerd's socket accepts connections."""

    def __init__(
        self,
        *,
        address: Path,
        root: Path,
        state: Path,
        log_level: str,
        adopt_only: bool,
        storage: Sequence[str],
        release: Callable[[], Awaitable[str]],
    ) -> None:
        """One that runs with other arguments of storage than `storage`, or is of another `release`, is replaced."""
        self._storage = list(storage)
        self._release = release
        self._checked = adopt_only
        self._address = address
        self._root = root
        self._state = state
        self._log_level = log_level
        self._adopt_only = adopt_only
        self._lock = asyncio.Lock()

    async def ensure(self) -> None:
        """Raises: Unavailable when none answers and none can be started."""
        async with self._lock:
            if self._answers() and not self._checked:
                self._checked = True
                await asyncio.to_thread(self._end_another, await self._release())
            if self._answers():
                return
            if self._adopt_only:
                raise Unavailable(f"containerd at {self._address} does not answer")
            await self._start()

    def _answers(self) -> bool:
        try:
            unixsock.connect(self._address, timeout_s=1.0).close()
        except OSError:
            return False
        return True

    def _end_another(self, release: str) -> None:
        """After an upgrade, or a change of options. Containers go on without it, and the next one finds them."""
        with unixsock.connect(self._address, timeout_s=1.0) as sock:
            pid, _, _ = struct.unpack("=3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        pidfd = os.pidfd_open(pid)
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
            started = arguments[arguments.index("--log-level") + 2 :] if _MODULE in arguments else self._storage
            if started == self._storage and release == __version__:
                return
            reason = "other storage options" if started != self._storage else f"release {release or 'unknown'}"
            log.info("rorqual-containerd (pid %d) has %s: it is started anew", pid, reason)
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            poller.poll(_START_TIMEOUT_S * 1000)
        finally:
            os.close(pidfd)

    async def _start(self) -> None:
        argv = [sys.executable, "-m", _MODULE, "--root", str(self._root)]
        argv += ["--state", str(self._state), "--address", str(self._address), "--log-level", self._log_level]
        argv += self._storage
        log.info("starting rorqual-containerd on %s", self._address)
        deadline = asyncio.get_running_loop().time() + _START_TIMEOUT_S
        process: subprocess.Popen[bytes] | None = None
        while not self._answers():
            if process is None:
                process = await asyncio.to_thread(
                    subprocess.Popen, argv, stdin=subprocess.DEVNULL, start_new_session=True
                )
            status = process.poll()
            if status == os.EX_TEMPFAIL:  # one that a rorquald before us has started: it answers soon, or ends
                process = None
                await asyncio.sleep(_ANOTHER_S)
            elif status is not None:
                raise Unavailable(f"rorqual-containerd ended with status {status} before it answered")
            if asyncio.get_running_loop().time() > deadline:
                if process is not None:
                    process.kill()
                    process.wait()
                raise Unavailable(f"rorqual-containerd does not answer on {self._address}")
            await asyncio.sleep(0.01)
        if process is None:
            return
        # Nobody waits for it elsewhere: it belongs to init once we are gone.
        _reap_later(process)


def _reap_later(process: subprocess.Popen[bytes]) -> None:
    """Reap the child whenever it ends, so that a killed containerd leaves no zombie."""
    loop = asyncio.get_running_loop()
    fd = os.pidfd_open(process.pid)

    def ended() -> None:
        loop.remove_reader(fd)
        os.close(fd)
        log.warning("rorqual-containerd (pid %d) ended with status %s", process.pid, process.wait())

    loop.add_reader(fd, ended)
