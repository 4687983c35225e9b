"""On SIGUSR1 a daemon writes what each of its tasks waits for to its log, as dockerd does with its goroutines.

Used by rorquald and rorqual-containerd.
"""

from __future__ import annotations

import asyncio
import logging
import signal

log = logging.getLogger(__name__)

_DEPTH = 12  # innermost frames of a task


def dump_on_signal() -> None:
    """Install the handler on the running loop."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _dump)


def _dump() -> None:
    tasks = sorted(asyncio.all_tasks(), key=asyncio.Task.get_name)
    log.info("%d tasks:\n%s", len(tasks), "\n".join(_described(task) for task in tasks))


def _described(task: asyncio.Task[object]) -> str:
    """The task's name and its chain of awaits, outermost first, a line each."""
    lines = [task.get_name()]
    waiting: object = task.get_coro()
    while waiting is not None and len(lines) <= _DEPTH:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "ag_frame", None)
        if frame is None:
            lines.append(f"    {waiting!r:.120}")
            break
        lines.append(f"    {frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}")
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "ag_await", None)
    return "\n".join(lines)
