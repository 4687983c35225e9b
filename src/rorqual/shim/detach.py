"""Detach keys in a client's input. Source: Docker's --detach-keys: letters, or ctrl- with a-z, @, [, \\\\, ], ^, _."""

from __future__ import annotations

from rorqual.errdefs import InvalidArgument

DEFAULT_KEYS = "ctrl-p,ctrl-q"


def parse_keys(text: str) -> bytes:
    """The byte sequence of e.g. "ctrl-p,ctrl-q"; b"" for "". Raises InvalidArgument for an unknown key."""
    out = bytearray()
    for key in text.split(",") if text else []:
        if len(key) == 1 and key.isascii():
            out += key.encode()
        elif key.startswith("ctrl-") and len(key) == 6 and key[5] in "abcdefghijklmnopqrstuvwxyz@[\\]^_":
            out.append(ord(key[5].upper()) & 0x1F)
        else:
            raise InvalidArgument(f"invalid detach keys ({text}) provided")
    return bytes(out)


class DetachScanner:
    """Holds back a started sequence until it is whole (detach) or broken (its bytes are input after all)."""

    __slots__ = ("_keys", "_seen")

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._seen = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(input for the process, whether the sequence was completed; what follows it is dropped)."""
        if not self._seen and self._keys[0] not in data:
            return data, False
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._seen]:
                self._seen += 1
                if self._seen == len(self._keys):
                    self._seen = 0
                    return bytes(out), True
                continue
            out += self._keys[: self._seen]
            self._seen = 1 if byte == self._keys[0] else 0
            if not self._seen:
                out.append(byte)
        return bytes(out), False
