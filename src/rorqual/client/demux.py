"""The multiplexed stream of attach, exec and logs: frames of an 8-byte head, [stream, 0, 0, 0, size (big endian)].

`Demultiplexer` takes bytes as they arrive and says where payload lies in them; it copies none of it.
Source: Engine API, ContainerAttach, "Stream format".
"""

from __future__ import annotations

from rorqual.client.errors import ProtocolError

STDIN, STDOUT, STDERR, SYSTEM_ERROR = 0, 1, 2, 3
HEAD_BYTES = 8


class Demultiplexer:
    """Finds the payloads in a stream of frames; keeps what a cut left over (at most a head)."""

    __slots__ = ("_head", "_left", "_stream")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self._stream = STDOUT

    @property
    def midway(self) -> bool:
        """Whether what comes next belongs to a frame whose begin was given already."""
        return self._left > 0

    def feed(self, data: memoryview) -> list[tuple[int, memoryview]]:
        """(stream, payload) pairs lying in `data`, which stay valid as long as `data` does.

        Raises: ProtocolError for a head that no engine sends.
        """
        out: list[tuple[int, memoryview]] = []
        position, size = 0, len(data)
        left, stream, head = self._left, self._stream, self._head
        while position < size:
            if left:
                end = position + left
                if end > size:
                    out.append((stream, data[position:]))
                    left = end - size
                    break
                out.append((stream, data[position:end]))
                left = 0
                position = end
                continue
            if head or size - position < HEAD_BYTES:
                taken = min(HEAD_BYTES - len(head), size - position)
                head += bytes(data[position : position + taken])
                position += taken
                if len(head) < HEAD_BYTES:
                    break
                stream, left = _parse(head)
                head = b""
            else:
                stream, left = _parse(bytes(data[position : position + HEAD_BYTES]))
                position += HEAD_BYTES
        self._left, self._stream, self._head = left, stream, head
        return out


def _parse(head: bytes) -> tuple[int, int]:
    if head[0] > SYSTEM_ERROR:
        raise ProtocolError(f"Unrecognized input header: {head[0]}")
    return head[0], int.from_bytes(head[4:], "big")
