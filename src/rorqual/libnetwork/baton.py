"""Who may touch the engine: one thread at a time, and not while it waits for a plugin.

The engine's state has no locks of its own. A thread holds the baton for the whole of an operation, and lends it to the
others for as long as a plugin is asked: a plugin that hangs holds up nobody but those who need it. What the operation
has read before such a call may be another's work after it; that nobody else changes the same sandbox, or a network of
the same plugin, meanwhile is the controller's business (its lanes).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType


class Baton:
    """Held with `with`, not by one thread twice. `keep` ends it: who waits for it then waits for the process's end."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._lock.release()

    def keep(self) -> None:
        """Take it and never give it back: what it guards is about to be closed."""
        self._lock.acquire()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """The holder lets go of it while the body runs."""
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()
