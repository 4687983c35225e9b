"""Output, read in any pieces, made into lines; those longer than 16 KiB are cut, as Docker cuts them."""

from __future__ import annotations

from collections.abc import Iterator

LINE_MAX = 16 * 1024


class Assembler:
    """Keeps the unfinished line of each stream."""

    def __init__(self) -> None:
        self._partial = {"stdout": b"", "stderr": b""}

    def block(self, stream: str, data: bytes) -> bytes:
        """The lines that are whole now as one piece, with their newlines, where none can be longer than 16 KiB.

        Else b"" and `data` is not taken: it is for feed. `data` is at most LINE_MAX bytes.
        """
        end = data.rfind(b"\n") + 1
        partial = self._partial[stream]
        if not end or (partial and len(partial) + data.find(b"\n") >= LINE_MAX) or len(data) > LINE_MAX:
            return b""
        self._partial[stream] = data[end:]
        return partial + data[:end]

    def feed(self, stream: str, data: bytes) -> list[bytes]:
        """The lines that are whole now, with their newlines, and pieces of at most 16 KiB of longer ones, without."""
        data = self._partial[stream] + data
        end = data.rfind(b"\n") + 1
        pieces = _whole(data[:end]) if end else []
        rest = data[end:]
        while len(rest) >= LINE_MAX:
            cut = _utf8_cut(rest, LINE_MAX)  # never inside a character when the text is UTF-8
            pieces.append(rest[:cut])
            rest = rest[cut:]
        self._partial[stream] = rest
        return pieces

    def rest(self) -> Iterator[tuple[str, bytes]]:
        """What was left unfinished of each stream; nothing is kept."""
        for stream, rest in list(self._partial.items()):
            self._partial[stream] = b""
            if rest:
                yield stream, rest


def split(block: bytes) -> list[bytes]:
    """Whole lines, with their newlines."""
    # bytes.splitlines would break at a lone \r too, which a terminal writes inside a line
    plain = b"\r" not in block
    return block.splitlines(keepends=True) if plain else [line + b"\n" for line in block[:-1].split(b"\n")]


def _whole(lines: bytes) -> list[bytes]:
    pieces = split(lines)
    if any(len(p) > LINE_MAX for p in pieces):
        return [part for piece in pieces for part in _cut(piece)]
    return pieces


def _cut(line: bytes) -> Iterator[bytes]:
    while len(line) > LINE_MAX:
        at = _utf8_cut(line, LINE_MAX)
        yield line[:at]
        line = line[at:]
    yield line


def _utf8_cut(data: bytes, at: int) -> int:
    for back in range(4):
        if at - back < len(data) and data[at - back] & 0xC0 != 0x80:
            return at - back
    return at
