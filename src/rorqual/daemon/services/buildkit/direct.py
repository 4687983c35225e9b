"""Builds of clients with a session that ask by POST /build?version=2: docker 18.09 to 20.10.

Source: moby's builder/builder-next, the answer's lines as docker/cli reads them.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from rorqual.daemon.services.build.options import Line
from rorqual.daemon.services.buildkit.arrivals import Arrivals
from rorqual.daemon.services.buildkit.builds import Builds
from rorqual.daemon.services.buildkit.exporting import Export, Exporter
from rorqual.daemon.services.buildkit.solving import Solver
from rorqual.errdefs import Cancelled, Conflict, NotFound

_PATIENCE_S = 30.0


class Direct:
    """Builds, and tells of them in lines."""

    def __init__(self, builds: Builds, solver: Solver, exporter: Exporter) -> None:
        self._builds = builds
        self._solver = solver
        self._exporter = exporter
        self._running: dict[str, asyncio.Task[str]] = {}
        self._uploads: Arrivals[_Upload] = Arrivals("the context of build {} did not come", _PATIENCE_S)

    async def build(
        self, name: str, session: str, attributes: Mapping[str, str], exports: Sequence[Export], line: Line
    ) -> None:
        """To its end, or until it is cancelled by its name ("" for none). Raises: Cancelled; as Solver.solve."""
        if name in self._running:
            raise Conflict(f"build {name} is running")
        async with self._builds.begin(name or secrets.token_hex(16), session) as build:

            async def work() -> str:
                try:
                    id = await self._solver.solve(build, "dockerfile.v0", attributes, upload=self.uploaded(name))
                    await self._exporter.export(build, id, exports)
                    return id
                finally:
                    await build.progress.end()

            task = asyncio.create_task(work(), name=f"build {name}")
            if name:
                self._running[name] = task
            try:
                async for message in build.progress.follow():
                    trace = base64.b64encode(message.SerializeToString()).decode()
                    await line({"id": "moby.buildkit.trace", "aux": trace})
                await asyncio.wait({task})
                if task.cancelled():
                    raise Cancelled("context canceled")
                await line({"id": "moby.image.id", "aux": {"ID": task.result()}})
            finally:
                self._running.pop(name, None)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def cancel(self, name: str) -> None:
        """End the build of that name, if it runs."""
        if (task := self._running.get(name)) is not None:
            task.cancel()

    async def upload(self, name: str, pieces: AsyncIterator[bytes]) -> None:
        """The context of the build `name`, to its end or the build's. Raises: NotFound when no build asks for it."""
        upload = _Upload(pieces)
        await self._uploads.add(name, upload)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await upload.taken.wait()
            await upload.ended.wait()
        except TimeoutError as e:
            raise NotFound(f"no build {name} asks for its context") from e
        finally:
            self._uploads.remove(name)

    async def uploaded(self, name: str) -> AsyncIterator[bytes]:
        """What `upload` is given, here. Raises: NotFound when nothing comes."""
        upload = await self._uploads.find(name)
        upload.taken.set()
        try:
            async for piece in upload.pieces:
                yield piece
        finally:
            upload.ended.set()


@dataclass(slots=True)
class _Upload:
    """A body whose reader is another request."""

    pieces: AsyncIterator[bytes]
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
