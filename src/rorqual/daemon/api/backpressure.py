"""A client that reads slowly: what is written to it waits, and what it is copied from is not read meanwhile."""

from __future__ import annotations

import asyncio


class SlowReader(asyncio.BaseProtocol):
    """The part of a client's protocol that is the same whatever is spoken; its transport calls it."""

    def __init__(self) -> None:
        self.source: asyncio.Transport | None = None  # what is copied to the client
        self._room: asyncio.Future[None] | None = None  # while the client is slow

    @property
    def is_slow(self) -> bool:
        """Whether what is written now waits."""
        return self._room is not None

    def pause_writing(self) -> None:
        self._room = asyncio.get_running_loop().create_future()
        if self.source is not None:
            self.source.pause_reading()

    def resume_writing(self) -> None:
        self._has_room()
        if self.source is not None and not self.source.is_closing():
            self.source.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_room()
        if self.source is not None:
            self.source.close()

    def _has_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    async def drain(self) -> None:
        """Returns when the client has taken enough, or has gone away."""
        if self._room is not None:
            await self._room
