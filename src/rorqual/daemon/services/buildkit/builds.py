"""Builds under way: the calls that one build consists of find each other by its ref."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from rorqual.daemon.services.buildkit.arrivals import Arrivals
from rorqual.daemon.services.buildkit.progress import Progress
from rorqual.errdefs import InvalidArgument

_REMEMBERED = 16


class Build:
    """One, from its first call to its last. `returned`: the image that is to be exported."""

    def __init__(self, ref: str, session: str) -> None:
        self.ref = ref
        self.session = session
        self.progress = Progress(ref)
        self.returned: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.images: dict[str, str] = {}  # by the reference that the client was given
        self.stack = AsyncExitStack()  # what holds the images


class Builds:
    """Those under way, by their ref."""

    def __init__(self) -> None:
        self._running: Arrivals[Build] = Arrivals("no such job {}")
        self._ended: dict[str, Progress] = {}  # of the last ones, for who asks too late

    @asynccontextmanager
    async def begin(self, ref: str, session: str) -> AsyncIterator[Build]:
        """A build for the block. Raises: InvalidArgument for a ref that is in use."""
        if not ref or ref in self._running:
            raise InvalidArgument(f"build {ref!r} exists already, or has no name")
        build = Build(ref, session)
        await self._running.add(ref, build)
        try:
            async with build.stack:
                yield build
        finally:
            self._running.remove(ref)
            build.returned.cancel()
            self._ended[ref] = build.progress
            if len(self._ended) > _REMEMBERED:
                del self._ended[next(iter(self._ended))]
            await build.progress.end()

    async def progress(self, ref: str) -> Progress:
        """Of a build that runs, is about to, or has just ended. Raises: NotFound."""
        return self._ended[ref] if ref in self._ended else (await self.find(ref)).progress

    async def find(self, ref: str) -> Build:
        """Waits a moment for one that is about to begin. Raises: NotFound."""
        return await self._running.find(ref)
