"""Shims as processes: whether one is there, what it says, and its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from contextlib import suppress

from rorqual.containerd.runtime.bundle import Bundle
from rorqual.containerd.runtime.pidfd import ended
from rorqual.errdefs import NotFound
from rorqual.rpc import taskapi, ttrpcclient, unixsock

log = logging.getLogger(__name__)

_SHUTDOWN_TIMEOUT_S = 5.0
_DIAL_S, _DIAL_FOR_S = 0.01, 2.0


async def dial(bundle: Bundle) -> socket.socket | None:
    """A connection to shim.sock, where a shim that was just forked listens in a moment; None: there is no shim."""
    deadline = time.monotonic() + _DIAL_FOR_S
    while True:
        try:
            return unixsock.connect(f"{bundle.path}/shim.sock", timeout_s=1)
        except OSError:
            if not _alive(bundle.shim_pid()) or time.monotonic() > deadline:
                return None
        await asyncio.sleep(_DIAL_S)


async def state_of(shim: ttrpcclient.Client, container_id: str, exec_id: str) -> taskapi.StateResponse | None:
    """What the shim says of a process; None when it has none of that id. Raises: Error."""
    try:
        return await shim.call(
            "State", taskapi.StateRequest(container_id, exec_id), taskapi.StateResponse, timeout_s=10
        )
    except NotFound:
        return None


async def wait_gone(pid: int) -> None:
    """Wait for a shim's end; one that stays is killed."""
    try:
        pidfd = os.pidfd_open(pid)  # 0 when it is not known: EINVAL
    except (OSError, ValueError):
        return
    try:
        async with asyncio.timeout(_SHUTDOWN_TIMEOUT_S):
            await ended(pidfd)
    except TimeoutError:
        log.warning("shim %d does not end: killing it", pid)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)


def _alive(pid: int) -> bool:
    """Whether it runs; a zombie, which an init that does not reap leaves for ever, does not. proc_pid_stat(5)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False
