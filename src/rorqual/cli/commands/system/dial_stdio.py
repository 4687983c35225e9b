"""`rorqual system dial-stdio`: the engine's socket on stdin and stdout, for clients that come over ssh.

A thread a direction: when both are full, neither waits for the other.
"""

from __future__ import annotations

import _thread
import os

from rorqual.cli.command import Command, Context
from rorqual.cli.streams import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values
    from rorqual.client.http1 import Socket

PIECE_BYTES = 256 * 1024


def run(context: Context, flags: Values, args: list[str]) -> None:
    sock = context.client.dial()
    _thread.start_new_thread(_upwards, (sock,))
    while data := sock.recv(PIECE_BYTES):
        write_all(1, memoryview(data))


def _upwards(sock: Socket) -> None:
    """stdin to the engine; its end is the end of that direction only."""
    try:
        while data := os.read(0, PIECE_BYTES):
            sock.sendall(data)
        sock.shutdown(1)
    except OSError:
        return  # the engine takes no more; what it says is still passed on


COMMAND = Command("", "Proxy the stdio stream to the daemon connection. Should not be invoked manually.", run)
