"""Blocking work in a thread that is used for nothing else.

It may change what a thread has of its own (namespaces, working directory), and wait for what never comes: it does not
keep the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def run(work: Callable[[], T], name: str) -> T:
    """What `work` returns or raises. Cancelled, this does not wait for it: its thread goes on alone."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(settle: Callable[..., None], outcome: object) -> None:
        if not done.cancelled():
            settle(outcome)

    def run_work() -> None:
        settle: Callable[..., None] = done.set_result
        outcome: object
        try:
            outcome = work()
        except BaseException as error:
            settle, outcome = done.set_exception, error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, settle, outcome)

    threading.Thread(target=run_work, name=name, daemon=True).start()
    return await done
