"""Two drivers as one: what is sent away is also kept here, for `logs` (Docker's dual logging)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rorqual.shim.logdrivers import LogDriver


class Tee:
    """Writes to both; reads the second one."""

    def __init__(self, remote: LogDriver, cache: LogDriver) -> None:
        self._remote = remote
        self._cache = cache

    @property
    def full(self) -> bool:
        """See LogDriver."""
        return self._remote.full

    @property
    def on_room(self) -> Callable[[], None] | None:
        """See LogDriver."""
        return self._remote.on_room

    @on_room.setter
    def on_room(self, callback: Callable[[], None] | None) -> None:
        self._remote.on_room = callback

    def write(self, stream: str, data: bytes, time_ns: int) -> None:
        """See LogDriver. A cache that cannot be written keeps nothing from being sent."""
        try:
            self._cache.write(stream, data, time_ns)
        finally:
            self._remote.write(stream, data, time_ns)

    def replay(self) -> Iterator[tuple[str, bytes]]:
        """See LogDriver."""
        return self._cache.replay()

    def close(self) -> None:
        """See LogDriver."""
        try:
            self._cache.close()
        finally:
            self._remote.close()
