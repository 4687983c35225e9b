"""Work on many things at once, each behind what it needs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from rorqual import errdefs
from rorqual.client import Client

T = TypeVar("T")
# Told of each step: what kind of thing, its name, its state ("Container", "web-1", "Creating").
Progress = Callable[[str, str, str], None]
_MOST = 64


class Clients:
    """A connection to the engine for each thread, as a Client is one thread's."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        self._own = threading.local()

    @property
    def client(self) -> Client:
        client: Client | None = getattr(self._own, "client", None)
        if client is None:
            client = self._own.client = self._connect()
        return client


def in_order(
    needs: Mapping[str, Collection[str]],
    act: Callable[[str], object],
    *,
    most: int = 0,
    reverse: bool = False,
    stop: threading.Event | None = None,
) -> None:
    """Does `act` for each name once all that it needs is done (`reverse`: all that need it); `most` at once.

    Nothing is begun after an error, after `stop` is set, or after an interrupt, which sets it: what waits gives up.
    Raises: the first error, once what was begun has ended; KeyboardInterrupt, a second one without waiting.
    """
    left = {name: {other for other in others if other in needs and other != name} for name, others in needs.items()}
    if reverse:
        left = {name: {other for other, theirs in left.items() if name in theirs} for name in left}
    if not left:
        return
    running: dict[Future[Any], str] = {}
    failed: BaseException | None = None
    pool = ThreadPoolExecutor(min(most if most > 0 else _MOST, len(left)))
    try:
        while running or (left and failed is None):
            if failed is None and stop is not None and stop.is_set():
                failed = errdefs.Cancelled("interrupted")
            if failed is None:
                for name in [name for name, others in left.items() if not others]:
                    del left[name]
                    running[pool.submit(act, name)] = name
            if not running:
                break
            try:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
            except KeyboardInterrupt as e:
                if isinstance(failed, KeyboardInterrupt):
                    raise
                failed = e
                if stop is not None:
                    stop.set()
                continue
            for future in done:
                name = running.pop(future)
                for others in left.values():
                    others.discard(name)
                failed = failed or future.exception()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if failed is not None:
        raise failed


def each(items: Iterable[T], act: Callable[[T], object], *, most: int = 0, stop: threading.Event | None = None) -> None:
    """Does `act` for all at once. Raises: as `in_order`."""
    named = {str(number): item for number, item in enumerate(items)}
    in_order(dict.fromkeys(named, ()), lambda name: act(named[name]), most=most, stop=stop)
