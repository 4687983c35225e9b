"""The pool of worker processes: a job outlives the death of a worker that had not begun it."""

import os
import signal

import pytest
from support.processes import wait_for

from rorqual import errdefs
from rorqual.containerd.workers import WorkerPool


async def ask(pool: WorkerPool) -> None:
    """A job that every worker answers, with a refusal."""
    with pytest.raises(errdefs.Error, match="missing"):
        await pool.run({"kind": "apply", "path": "/missing", "directory": "/missing", "whiteouts": "overlay"}, [])


async def test_an_idle_worker_that_was_killed_is_replaced() -> None:
    pool = WorkerPool(1)
    try:
        await ask(pool)
        (idle,) = pool._idle
        os.kill(idle._process.pid, signal.SIGKILL)
        wait_for(lambda: idle._process.poll() is not None, "it is dead")
        await ask(pool)
    finally:
        pool.close()
