"""A build that a client asks for, to its image.

Control.Solve (exports, waits)  +  LLBBridge.Solve (what to build)  ->  one Build, by its ref
or Control.Solve alone, or POST /build?version=2: both in one
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace

from rorqual.daemon.services.build.builder import Builder
from rorqual.daemon.services.build.caches import Caches
from rorqual.daemon.services.build.fetching import Fetcher
from rorqual.daemon.services.build.stage import CommandFailed
from rorqual.daemon.services.buildkit import attributes
from rorqual.daemon.services.buildkit.builds import Build
from rorqual.daemon.services.buildkit.progress import Graph
from rorqual.daemon.services.buildkit.sessions import Sessions
from rorqual.daemon.services.buildkit.sources import Sources
from rorqual.errdefs import Error


class Solver:
    """Builds what clients ask for. `scratch`: a directory of the daemon's own."""

    def __init__(self, builder: Builder, sessions: Sessions, fetcher: Fetcher, caches: Caches, scratch: str) -> None:
        self._builder = builder
        self._sessions = sessions
        self._fetcher = fetcher
        self._caches = caches
        self._scratch = scratch

    async def solve(
        self,
        build: Build,
        frontend: str,
        asked_for: Mapping[str, str],
        *,
        upload: AsyncIterator[bytes] | None = None,
        inputs: Mapping[str, str] | None = None,
    ) -> str:
        """The image's ID; it stays for as long as the build does. `upload` and `inputs`: see Sources.

        Raises: NotImplementedHere, what the builder raises; Error with BuildKit's words for a command that failed.
        """
        attributes.check_frontend(frontend, asked_for.get("source", ""))
        session = await self._sessions.find(build.session)
        asked = attributes.read(asked_for, session.credentials)
        teller = Graph(build.progress)
        async with AsyncExitStack() as stack:
            sources = Sources(
                build.progress, session, asked, self._fetcher, self._caches, self._scratch, stack, upload, inputs
            )
            context = await sources.context()
            options = replace(asked.options, client=session, contexts=await sources.named())
            try:
                return await build.stack.enter_async_context(self._builder.building(context, options, teller))
            except CommandFailed as e:
                text = f'process "{e.command}" did not complete successfully: exit code: {e.code}'
                await teller.done(text)
                raise Error(text) from e
            except Error as e:
                await teller.done(str(e))
                raise
