"""Waiting for another process's end in the event loop."""

from __future__ import annotations

import asyncio
import os


async def ended(pidfd: int) -> None:
    """Return when the process of the pidfd (the caller's) has ended; it is not reaped."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    loop.add_reader(pidfd, done.set)
    try:
        await done.wait()
    finally:
        loop.remove_reader(pidfd)


async def ended_child(pid: int) -> None:
    """Return when the child has ended; it is not reaped."""
    pidfd = os.pidfd_open(pid)
    try:
        await ended(pidfd)
    finally:
        os.close(pidfd)
