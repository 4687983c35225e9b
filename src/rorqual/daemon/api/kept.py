"""JSON of lists that are asked for again and again and mostly stay the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from rorqual.api import codec


@dataclass(frozen=True, slots=True)
class Entry:
    """One of a list. `value` makes it; it is the same as long as `made_of` equals what it was made of before."""

    key: Hashable
    made_of: object
    value: Callable[[], object]


class Kept:
    """The JSON of a list's entries, as long as they stay the same."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[object, bytes]] = {}

    def array(self, entries: Sequence[Entry]) -> bytes:
        """The JSON array."""
        if len(self._known) > 2 * len(entries) + 64:
            self._known.clear()
        return b"[" + b",".join(map(self._one, entries)) + b"]\n"

    def _one(self, entry: Entry) -> bytes:
        known = self._known.get(entry.key)
        if known is not None and known[0] == entry.made_of:
            return known[1]
        encoded = codec.to_bytes(entry.value())
        self._known[entry.key] = (entry.made_of, encoded)
        return encoded
