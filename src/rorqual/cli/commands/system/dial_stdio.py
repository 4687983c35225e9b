"""`rorqual system dial-stdio`: the engine's socket on stdin and stdout, for clients that come over ssh."""

from __future__ import annotations

import os
import select

from rorqual.cli.command import Command, Context
from rorqual.cli.streams import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rorqual.cli.flags import Values

PIECE_BYTES = 256 * 1024


def run(context: Context, flags: Values, args: list[str]) -> None:
    sock = context.client.dial()
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(sock.fileno(), select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == 0:
                data = os.read(0, PIECE_BYTES)
                if data:
                    sock.sendall(data)
                else:
                    poll.unregister(0)
                    sock.shutdown(1)
            else:
                data = sock.recv(PIECE_BYTES)
                if not data:
                    return
                write_all(1, memoryview(data))


COMMAND = Command("", "Proxy the stdio stream to the daemon connection. Should not be invoked manually.", run)
