"""Output that its reader had not taken when the container was deleted: a process of its own goes on sending it.

The same for a log's receiver: what is queued for it is sent by a child that ends within the sender's own time.

Nothing that a container wrote is lost because its client was stopped, or reads slowly (moby#45795). The shim itself
must end: containerd waits for it. The child holds the clients' connections and what is left for them (at most
stdio.PENDING_MAX each), and ends with the last of them, sent or given up by its reader.
"""

from __future__ import annotations

import os
import select

from rorqual.linux import process as linux_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PARTS_MAX = 64


def send(left: list[tuple[int, list[memoryview]]]) -> None:
    """Fork a child that sends (fd, parts) of each; returns in the caller, never in the child."""
    left = [(fd, parts) for fd, parts in left if fd >= 0 and parts]
    if not left or os.fork():
        return
    try:
        # The shim's sockets among them: who asks there must see that it has ended.
        linux_process.close_from(3, frozenset(fd for fd, _ in left))
        _deliver(dict(left))
    finally:
        os._exit(0)  # never back into the shim's end


def finish(work: list[tuple[Callable[[], None], int]]) -> None:
    """Fork a child that does each piece of (work, the fd that it needs or -1); returns in the caller alone."""
    if not work or os.fork():
        return
    try:
        linux_process.close_from(3, frozenset(fd for _, fd in work if fd >= 0))
        for piece, _ in work:
            piece()
    finally:
        os._exit(0)  # never back into the shim's end


def _deliver(left: dict[int, list[memoryview]]) -> None:
    poll = select.poll()
    for fd in left:
        os.set_blocking(fd, False)
        poll.register(fd, select.POLLOUT)
    while left:
        for fd, _events in poll.poll():
            try:
                sent = os.writev(fd, left[fd][:_PARTS_MAX])
            except BlockingIOError:
                continue
            except OSError:
                left[fd] = []  # the reader has gone
            else:
                left[fd] = drop(left[fd], sent)
            if not left[fd]:
                poll.unregister(fd)
                os.close(fd)
                del left[fd]


def drop(parts: list[memoryview], count: int) -> list[memoryview]:
    """`parts` without their first `count` bytes."""
    for n, part in enumerate(parts):
        if count < len(part):
            return [part[count:], *parts[n + 1 :]]
        count -= len(part)
    return []
