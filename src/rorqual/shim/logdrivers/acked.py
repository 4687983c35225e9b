"""A sender whose receiver acknowledges each message (fluentd-request-ack): what it has not is sent again.

Each message ends with its chunk's identifier of CHUNK_CHARS characters. What was sent waits here until the receiver
names it; when the connection is lost before that, it goes first over the next one, so that a receiver may get a message
twice and misses none. Source: Fluentd Forward Protocol Specification v1, "Response Messages".
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable

from rorqual.shim.logdrivers.sender import FLUSH_TIMEOUT_S, Sender
from rorqual.shim.loop import Loop, log

CHUNK_CHARS = 22
_HEAD = b"\x81\xa3ack" + bytes((0xA0 | CHUNK_CHARS,))  # MessagePack of {"ack": a string of that length}
_ANSWER_BYTES = len(_HEAD) + CHUNK_CHARS


class AckedSender(Sender):
    """As Sender, over a stream. What is not acknowledged counts as waiting: it holds a blocking container back."""

    def __init__(self, loop: Loop, connect: Callable[[], socket.socket], *, lazy: bool = False) -> None:
        self._unacked: deque[bytes] = deque()  # sent, oldest first
        self._answers = bytearray()
        super().__init__(loop, connect, datagrams=False, lazy=lazy)

    def _drop_first(self) -> None:
        self._unacked.append(self._queue.popleft())

    @property
    def _pending(self) -> int:
        return len(self._queue) + len(self._unacked)

    def _take(self, data: bytes) -> bool:
        """Whether the receiver's words are acknowledgements of ours."""
        self._answers += data
        while len(self._answers) >= _ANSWER_BYTES:
            answer = bytes(self._answers[:_ANSWER_BYTES])
            del self._answers[:_ANSWER_BYTES]
            chunk = answer[len(_HEAD) :]
            # A receiver may answer out of turn, but as a rule it is the oldest.
            message = next((m for m in self._unacked if m.endswith(chunk)), None)
            if not answer.startswith(_HEAD) or message is None:
                return False
            self._unacked.remove(message)
            self.waiting_bytes -= len(message)
        return True

    def _heard(self, data: bytes) -> bool:
        if not self._take(data):
            log("log: the receiver's answer acknowledges nothing that was sent: connecting again")
            return False
        if self._closing and not self._pending:
            self._end()
        elif self.on_room is not None:
            self.on_room()
        return True

    def _lost(self) -> None:
        self._queue.extendleft(reversed(self._unacked))
        self._unacked.clear()
        self._answers.clear()
        super()._lost()

    def _drain(self) -> None:
        super()._drain()
        deadline = time.monotonic() + FLUSH_TIMEOUT_S
        try:
            while self._unacked and self._socket is not None and (left_s := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left_s)
                data = self._socket.recv(4096)
                if not data or not self._take(data):
                    break
        except OSError as e:
            log(f"log: acknowledgements: {e}")
        if self._unacked:
            log(f"log: {len(self._unacked)} messages were not acknowledged at the end")
