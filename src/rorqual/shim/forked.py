"""Runs a piece of work in a child of the shim and brings its result back.

Memory is why: whatever Python code a process runs, it writes the reference counts of all it touches, and so copies
those pages of the spawner's. A create dirties 1.5 MB that way; in a child that ends it costs the shim nothing, for
0.75 ms.
Processes that the child leaves behind become children of the shim, which is their subreaper.
"""

from __future__ import annotations

import json
import os
import signal
import socket

from rorqual import errdefs
from rorqual.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ANSWER_MAX = 1 << 20


def in_child(work: Callable[[], tuple[Any, list[int]]]) -> tuple[Any, list[int]]:
    """The (JSON-able value, fds) that `work` returned in the child; the fds are ours to close.

    Raises the errdefs error that it raised, errdefs.Error for anything else, Internal when the child was killed.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    shim = os.getpid()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _child(theirs, shim, work)
    theirs.close()
    with ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ANSWER_MAX)
        data, fds, _, _ = socket.recv_fds(ours, _ANSWER_MAX, 8)
    os.waitpid(pid, 0)  # only now are the processes it left our children
    if not data:
        raise errdefs.Internal("the runtime's process was killed")
    answer = json.loads(data)
    if "error" in answer:
        kind = getattr(errdefs, answer["code"], errdefs.Error)
        raise kind(answer["error"])
    return answer["value"], fds


def _child(end: socket.socket, shim: int, work: Callable[[], tuple[Any, list[int]]]) -> None:
    status = 1
    try:
        fds: list[int] = []
        process.set_parent_death_signal(signal.SIGKILL)  # a killed shim's container is not to be half made by nobody
        if os.getppid() != shim:
            return
        try:
            value, fds = work()
            answer: dict[str, Any] = {"value": value}
        except Exception as e:
            answer = {"error": str(e) or type(e).__name__, "code": _code(e)}
        socket.send_fds(end, [json.dumps(answer).encode()], fds)
        status = 0
    finally:
        os._exit(status)  # never back into the shim's loop


def _code(error: Exception) -> str:
    """The class of errdefs that the error is one of."""
    for cls in type(error).__mro__:
        if cls.__module__ == errdefs.__name__:
            return cls.__name__
    return "Error"
