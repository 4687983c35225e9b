"""Whether a zstd stream ends where a frame ends: the binding's reader takes a cut stream for a short one.

Only lengths are followed, block by block; the content is the decompressor's. Source: RFC 8878 section 3.1.
"""

from __future__ import annotations

from rorqual.errdefs import DataLoss

_MAGIC = 0xFD2FB528
_SKIPPABLE = 0x184D2A50
_DICT_BYTES = (0, 1, 2, 4)
_RLE = 1


class FrameWalker:
    """Fed with the compressed bytes as they pass; `check_end` at their end."""

    __slots__ = ("_carry", "_checksum", "_next", "_skip")

    def __init__(self) -> None:
        self._carry = b""
        self._skip = 0
        self._next = "magic"
        self._checksum = False

    def feed(self, data: bytes) -> None:
        """Raises: DataLoss when something else than a frame begins."""
        position = 0
        while True:
            if self._skip:
                step = min(self._skip, len(data) - position)
                position += step
                self._skip -= step
                if self._skip:
                    return
            need = {"magic": 4, "length": 4, "descriptor": 1, "block": 3}[self._next]
            take = need - len(self._carry)
            self._carry += data[position : position + take]
            position = min(len(data), position + take)
            if len(self._carry) < need:
                return
            value = int.from_bytes(self._carry, "little")
            self._carry = b""
            self._step(value)

    def _step(self, value: int) -> None:
        if self._next == "magic":
            if value == _MAGIC:
                self._next = "descriptor"
            elif value & ~0xF == _SKIPPABLE:
                self._next = "length"
            else:
                raise DataLoss("invalid zstd stream: no frame where one should begin")
        elif self._next == "length":
            self._skip, self._next = value, "magic"
        elif self._next == "descriptor":
            single = value >> 5 & 1
            content_bytes = (single, 2, 4, 8)[value >> 6]
            self._skip = (1 - single) + _DICT_BYTES[value & 3] + content_bytes
            self._checksum = bool(value & 4)
            self._next = "block"
        else:
            last, kind, size = value & 1, value >> 1 & 3, value >> 3
            self._skip = 1 if kind == _RLE else size
            if last:
                self._skip += 4 if self._checksum else 0
                self._next = "magic"

    def check_end(self) -> None:
        """Raises: DataLoss when the stream was cut inside a frame."""
        if self._next != "magic" or self._skip or self._carry:
            raise DataLoss("invalid zstd stream: unexpected end")
