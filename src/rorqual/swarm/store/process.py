"""The etcd of a manager: started, found again, ended.

It listens on unix sockets in its own directory only, which is root's: the only manager of a swarm opens no port. It is
in a session of its own, so that it outlives a killed daemon, whose successor takes it over.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
from pathlib import Path

from rorqual.errdefs import Unavailable
from rorqual.rpc import unixsock

log = logging.getLogger(__name__)

# etcd's unix addresses must look like host:port; the file that it makes is called so.
_CLIENT, _PEER = "client:0", "peer:0"
_START_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 10.0
_POLL_S = 0.01
_BACKEND_BYTES = 1 << 30
_KEPT_REVISIONS = 1000
# What a member that is alone waits at its start before it elects itself: nobody else can be slow to answer.
_HEARTBEAT_MS, _ELECTION_MS = 25, 250


class EtcdProcess:
    """One manager's, in `directory`. `name` is the node's id."""

    def __init__(self, directory: Path, name: str, *, binary: str = "etcd") -> None:
        self._directory, self._name, self._binary = directory, name, binary
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Its API's socket."""
        return str(self._directory / _CLIENT)

    async def ensure(self) -> None:
        """Raises: Unavailable when it is not installed, or does not start."""
        if self._pid():
            return
        found = shutil.which(self._binary)
        if found is None:
            raise Unavailable(
                "a swarm's state is kept in etcd, which is not installed (Debian, Ubuntu: apt-get install etcd-server)"
            )
        os.makedirs(self._directory, 0o700, exist_ok=True)
        process = await asyncio.to_thread(self._start, found)
        self._process = process
        deadline = asyncio.get_running_loop().time() + _START_TIMEOUT_S
        while not self._pid():
            if process.poll() is not None:
                raise Unavailable(f"etcd ended with status {process.returncode}: see {self._directory / 'log'}")
            if asyncio.get_running_loop().time() > deadline:
                process.kill()
                process.wait()
                raise Unavailable(f"etcd does not answer on {self.address}")
            await asyncio.sleep(_POLL_S)

    def _start(self, binary: str) -> subprocess.Popen[bytes]:
        client, peer = f"unix://{_CLIENT}", f"unix://{_PEER}"
        argv = [binary, "--name", self._name, "--data-dir", "data"]
        argv += ["--listen-client-urls", client, "--advertise-client-urls", client]
        argv += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        argv += ["--initial-cluster", f"{self._name}={peer}", "--initial-cluster-token", self._name]
        argv += ["--heartbeat-interval", str(_HEARTBEAT_MS), "--election-timeout", str(_ELECTION_MS)]
        argv += ["--auto-compaction-mode", "revision", "--auto-compaction-retention", str(_KEPT_REVISIONS)]
        argv += ["--quota-backend-bytes", str(_BACKEND_BYTES), "--logger", "zap", "--log-level", "warn"]
        log.info("starting etcd in %s", self._directory)
        for stale in (_CLIENT, _PEER):
            (self._directory / stale).unlink(missing_ok=True)
        # Options are what it is given here, not what this daemon's environment has for another etcd.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        with open(self._directory / "log", "wb") as output:
            return subprocess.Popen(
                argv,
                cwd=self._directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _pid(self) -> int:
        """Who listens, 0 for nobody."""
        try:
            with unixsock.connect(self.address, timeout_s=1.0) as sock:
                pid, _, _ = struct.unpack("=3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        except OSError:
            return 0
        return int(pid)

    async def stop(self) -> None:
        """End it and wait for that; none is no error."""
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        pid = self._pid()
        if pid:
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                pidfd = -1
            if pidfd >= 0:
                try:
                    _end(pidfd)
                finally:
                    os.close(pidfd)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def reap(self) -> None:
        """Take the status of one of ours that has ended, so that it is no zombie."""
        if self._process is not None and self._process.poll() is not None:
            log.warning("etcd ended with status %s", self._process.returncode)
            self._process = None


def _end(pidfd: int) -> None:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return
        if poller.poll(_END_TIMEOUT_S * 1000):
            return
