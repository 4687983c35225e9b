"""A single-threaded epoll loop: file descriptors, timers and child exits. asyncio would cost 4.5 MB a shim."""

from __future__ import annotations

import heapq
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from itertools import count

IN, OUT, HUP, RDHUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR, select.EPOLLRDHUP

_WAIT_MAX_S = 3600.0  # the kernel counts milliseconds in 32 bits; a health check's interval may be years


class Loop:
    """Callbacks run one at a time; one that raises is logged and the loop goes on: a shim must outlive its bugs."""

    def __init__(self) -> None:
        self._epoll = select.epoll(8)
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = count()
        self._running = True
        self._own_fds: list[int] = []
        # What still has something to send when the loop ends: (fd, its parts), fetched by the caller of run().
        self.unsent: set[Callable[[], tuple[int, list[memoryview]]]] = set()
        # Blocking work that is left then, for a child of the caller of run(), and what gives the fd that it needs.
        self.last_words: dict[Callable[[], None], Callable[[], int]] = {}

    def add(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` when fd is ready. fd must not be there yet."""
        self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def modify(self, fd: int, events: int) -> None:
        """Change what is waited for; 0 keeps only hang-up and error."""
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Forget fd, before it is closed. An unknown fd is ignored."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Call once, `delay_s` from now."""
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._serial), callback))

    def on_child(self, callback: Callable[[], None]) -> None:
        """Call after SIGCHLD (once for any number of exits)."""
        read_fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._own_fds += (read_fd, write_fd)
        signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)

        def ready(_events: int) -> None:
            os.read(read_fd, 4096)
            callback()

        self.add(read_fd, IN, ready)

    def stop(self) -> None:
        """Make run() return after the present callback."""
        self._running = False

    def close(self) -> None:
        """Give up the loop's own fds."""
        if self._own_fds:
            signal.set_wakeup_fd(-1)  # before its fd means another file
        for fd in self._own_fds:
            self.remove(fd)
            os.close(fd)
        self._own_fds.clear()
        self._epoll.close()

    def run(self) -> None:
        """Serve until stop()."""
        while self._running:
            for fd, events in self._epoll.poll(self._timeout_s()):
                callback = self._callbacks.get(fd)
                if callback is not None:
                    self._guarded(lambda c=callback, e=events: c(e))  # type: ignore[misc]
            while self._timers and self._timers[0][0] <= time.monotonic():
                self._guarded(heapq.heappop(self._timers)[2])

    def _timeout_s(self) -> float:
        if not self._timers:
            return -1
        return min(max(0.0, self._timers[0][0] - time.monotonic()), _WAIT_MAX_S)

    def _guarded(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            import traceback  # with what it needs, 0.7 MB of the shim's parent

            log(traceback.format_exc())


def log(text: str) -> None:
    """A line to standard error, which is containerd's log. Its reader may be gone: that is no reason to fail."""
    try:
        sys.stderr.write(f"shim[{os.getpid()}]: {text.rstrip()}\n")
        sys.stderr.flush()
    except OSError:
        return
