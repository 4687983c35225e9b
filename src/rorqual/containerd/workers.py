"""A small pool of worker processes for bytes: each does one job at a time (rorqual.containerd.worker).

Started when a job finds none idle, up to a maximum; a job then waits for its turn. An idle worker ends after a while:
idle memory counts. One JSON datagram with fds is a job, one its result; a cancelled job's worker is killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from typing import Any

from rorqual import errdefs
from rorqual.rpc import codes

_IDLE_S = 3.0
_RESULT_MAX = 256 * 1024


class Worker:
    """One process, and its end of the job socket."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # started from the main thread: its end is the worker's (PR_SET_PDEATHSIG)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rorqual.containerd.worker", str(os.getpid())],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
            )
        ours.setblocking(False)
        self._sock = ours
        self.idle_timer: asyncio.TimerHandle | None = None

    def send(self, job: dict[str, Any], fds: list[int]) -> None:
        """Give it a job. Raises OSError when the process has ended: the job is still the caller's."""
        socket.send_fds(self._sock, [json.dumps(job).encode()], fds)

    async def result(self) -> dict[str, Any]:
        """The job's result. Raises Unavailable when the process died."""
        try:
            data = await asyncio.get_running_loop().sock_recv(self._sock, _RESULT_MAX)
        except OSError as e:
            raise errdefs.Unavailable(f"worker: {e.strerror}") from e
        if not data:
            raise errdefs.Unavailable("worker: process ended in the middle of a job")
        result: dict[str, Any] = json.loads(data)
        return result

    def stop(self) -> None:
        """Kill it; it is reaped by a thread, as one that waits for a busy disk ends when that lets it."""
        if self.idle_timer is not None:
            self.idle_timer.cancel()
        self._sock.close()
        self._process.kill()
        threading.Thread(target=self._process.wait, name="reap", daemon=True).start()


class WorkerPool:
    """At most `size` workers."""

    def __init__(self, size: int) -> None:
        self._slots = asyncio.Semaphore(size)
        self._idle: list[Worker] = []

    async def run(self, job: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """The result of a job once its turn has come. Raises the error that the worker reports."""
        async with self._slots:
            worker = self._employ(job, fds)
            done = False
            try:
                result = await worker.result()
                done = True
            finally:
                if done:
                    self._put_back(worker)
                else:
                    worker.stop()
        if "error" in result:
            raise codes.error_named(str(result.get("code")), str(result["error"]))
        return result

    def close(self) -> None:
        """Stop the idle ones; those at work are stopped by their job's cancellation."""
        while self._idle:
            self._idle.pop().stop()

    def _employ(self, job: dict[str, Any], fds: list[int]) -> Worker:
        """A worker that has the job. Raises Unavailable when a new one cannot take it."""
        while self._idle:
            worker = self._idle.pop()
            if worker.idle_timer is not None:
                worker.idle_timer.cancel()
            try:
                worker.send(job, fds)
                return worker
            except OSError:
                worker.stop()  # somebody has killed it in its sleep
        worker = Worker()
        try:
            worker.send(job, fds)
        except OSError as e:
            worker.stop()
            raise errdefs.Unavailable(f"worker: {e.strerror}") from e
        return worker

    def _put_back(self, worker: Worker) -> None:
        self._idle.append(worker)
        worker.idle_timer = asyncio.get_running_loop().call_later(_IDLE_S, self._retire, worker)

    def _retire(self, worker: Worker) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
            worker.stop()
