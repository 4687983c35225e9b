"""local: the engine's own log file, and the cache that makes `logs` work with drivers that send output away.

    1767323045678901234 o hello        19 digits of ns, the stream (o or e; O and E: the line goes on in the next entry)

Entries end with a newline, which is the line's own unless it goes on. The output's bytes are kept as they are: no JSON,
no replaced characters. 20 MiB a file, five files, compressed: Docker's defaults.
"""

from __future__ import annotations

from collections.abc import Iterator

from rorqual.shim.logdrivers.linefile import LineFile

_MARKS = {"stdout": (b"o", b"O"), "stderr": (b"e", b"E")}
_PREFIX = 22


class Local(LineFile):
    """Appends to `file`, which it takes over."""

    def _block(self, stream: str, block: bytes, time_ns: int) -> bytes:
        prefix = b"%019d %s " % (time_ns, _MARKS[stream][0])
        return prefix + block[:-1].replace(b"\n", b"\n" + prefix) + b"\n"

    def _entries(self, stream: str, pieces: list[bytes], time_ns: int) -> bytes:
        whole, goes_on = (b"%019d %s " % (time_ns, mark) for mark in _MARKS[stream])
        return b"".join(whole + p if p.endswith(b"\n") else goes_on + p + b"\n" for p in pieces)

    def replay(self) -> Iterator[tuple[str, bytes]]:
        """See LogDriver."""
        for entry in self._file.replay():
            mark, text = entry[20:21], entry[_PREFIX:]
            yield ("stdout" if mark in b"oO" else "stderr"), text if mark in b"oe" else text[:-1]
