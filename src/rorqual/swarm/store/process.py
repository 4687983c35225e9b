"""The etcd of a manager: started, found again, ended.

It listens on unix sockets in its own directory only, which is root's: the only manager of a swarm opens no port. It is
in a session of its own, so that it outlives a killed daemon, whose successor takes it over. It is known by the file
`pid`, which it has written itself before it became etcd, and by its working directory, which no other process has.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import shutil
import signal
import subprocess
from pathlib import Path

from rorqual.errdefs import Unavailable
from rorqual.rpc import unixsock

log = logging.getLogger(__name__)

# etcd's unix addresses must look like host:port; the file that it makes is called so.
_CLIENT, _PEER = "client:0", "peer:0"
_BECOME = 'echo $$ > pid; exec "$@"'
START_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 10.0
_POLL_S = 0.01
_BACKEND_BYTES = 1 << 30
_KEPT_REVISIONS = 1000
# What a member that is alone waits at its start before it elects itself: nobody else can be slow to answer.
_HEARTBEAT_MS, _ELECTION_MS = 25, 250


class EtcdProcess:
    """One manager's, in `directory`; `name`, which the first start must know, is the node's id."""

    def __init__(self, directory: Path, *, binary: str = "etcd") -> None:
        self._directory, self._binary = directory, binary
        self.name = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = asyncio.Lock()

    @property
    def address(self) -> str:
        """Its API's socket."""
        return str(self._directory / _CLIENT)

    async def ensure(self) -> None:
        """It answers. Raises: Unavailable when it is not installed, or does not start."""
        async with self._lock:
            if self._answers():
                return
            found = shutil.which(self._binary)
            if found is None:
                raise Unavailable(
                    "a swarm's state is kept in etcd, which is not installed (Debian, Ubuntu: apt-get install "
                    "etcd-server)"
                )
            deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
            if not self._pid():  # one that a predecessor has just started answers soon
                self._start(found)
            while not self._answers():
                self.reap()
                if not self._pid():
                    raise Unavailable(f"etcd ended before it answered: see {self._directory / 'log'}")
                if asyncio.get_running_loop().time() > deadline:
                    raise Unavailable(f"etcd does not answer on {self.address}")
                await asyncio.sleep(_POLL_S)

    def _start(self, binary: str) -> None:
        """Returns when the process is known: a fork, and no waiting, so the event loop does it itself."""
        client, peer = f"unix://{_CLIENT}", f"unix://{_PEER}"
        argv = [binary, "--name", self.name, "--data-dir", "data"]
        argv += ["--listen-client-urls", client, "--advertise-client-urls", client]
        argv += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        argv += ["--initial-cluster", f"{self.name}={peer}", "--initial-cluster-token", self.name]
        argv += ["--heartbeat-interval", str(_HEARTBEAT_MS), "--election-timeout", str(_ELECTION_MS)]
        argv += ["--auto-compaction-mode", "revision", "--auto-compaction-retention", str(_KEPT_REVISIONS)]
        argv += ["--quota-backend-bytes", str(_BACKEND_BYTES), "--logger", "zap", "--log-level", "warn"]
        log.info("starting etcd in %s", self._directory)
        os.makedirs(self._directory, 0o700, exist_ok=True)
        for stale in (_CLIENT, _PEER):
            (self._directory / stale).unlink(missing_ok=True)
        # Options are what it is given here, not what this daemon's environment has for another etcd.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        with open(self._directory / "log", "wb") as output:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _BECOME, "sh", *argv],
                cwd=self._directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _answers(self) -> bool:
        try:
            unixsock.connect(self.address, timeout_s=1.0).close()
        except OSError:
            return False
        return True

    def _pid(self) -> int:
        """The process, 0 for none."""
        if self._process is not None and self._process.returncode is None:
            return self._process.pid
        try:
            pid = int((self._directory / "pid").read_text())
            ours = os.path.samefile(f"/proc/{pid}/cwd", self._directory)
        except (OSError, ValueError):
            return 0
        return pid if ours else 0

    async def stop(self) -> None:
        """End it and wait for that, however far its start has come; none is no error."""
        async with self._lock:
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
