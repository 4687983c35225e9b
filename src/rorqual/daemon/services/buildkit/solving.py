"""Builds that BuildKit's clients ask for, from their request to the image and where it goes.

Control.Solve (exports, waits)  +  LLBBridge.Solve (what to build)  ->  one Build, by its ref
or Control.Solve alone, or POST /build?version=2: both in one
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from rorqual.builder.dockerfile import parser, words
from rorqual.builder.dockerfile.parser import Instruction
from rorqual.builder.dockerfile.stages import Recipe, recipe
from rorqual.daemon.services.build import context as contexts
from rorqual.daemon.services.build.builder import Builder
from rorqual.daemon.services.build.caches import Caches
from rorqual.daemon.services.build.context import PREFIXES, Context
from rorqual.daemon.services.build.fetching import Fetcher
from rorqual.daemon.services.build.options import NamedContext
from rorqual.daemon.services.build.stage import CommandFailed
from rorqual.daemon.services.buildkit import attributes
from rorqual.daemon.services.buildkit.attributes import Asked
from rorqual.daemon.services.buildkit.filesync import Wanted, receive
from rorqual.daemon.services.buildkit.progress import Graph, Progress, Running
from rorqual.daemon.services.buildkit.sessions import ClientSession, Sessions
from rorqual.errdefs import Error, InvalidArgument, NotFound, NotImplementedHere
from rorqual.linux import paths
from rorqual.patterns import Ignore
from rorqual.rpc.status import translated

_PATIENCE_S = 5.0  # the calls of one build come in any order
UPLOAD = "upload-request"
_REMEMBERED = 16
_UPLOADED = "http://buildkit-session/"


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
        self._running: dict[str, Build] = {}
        self._ended: dict[str, Progress] = {}  # of the last ones, for who asks too late
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def begin(self, ref: str, session: str) -> AsyncIterator[Build]:
        """A build for the block. Raises: InvalidArgument for a ref that is in use."""
        if not ref or ref in self._running:
            raise InvalidArgument(f"build {ref!r} exists already, or has no name")
        build = Build(ref, session)
        async with self._changed:
            self._running[ref] = build
            self._changed.notify_all()
        try:
            async with build.stack:
                yield build
        finally:
            del self._running[ref]
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
        async with self._changed:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await self._changed.wait_for(lambda: ref in self._running)
            except TimeoutError as e:
                raise NotFound(f"no such job {ref}") from e
            return self._running[ref]


class Solver:
    """Builds what clients ask for. `scratch`: a directory of the daemon's own."""

    def __init__(self, builder: Builder, sessions: Sessions, fetcher: Fetcher, caches: Caches, scratch: str) -> None:
        self.builder = builder
        self._caches = caches
        self._sessions = sessions
        self._fetcher = fetcher
        self._scratch = scratch

    async def solve(
        self,
        build: Build,
        frontend: str,
        asked_for: Mapping[str, str],
        upload: AsyncIterator[bytes] | None = None,
        inputs: Mapping[str, str] | None = None,
    ) -> str:
        """The image's ID; it stays for as long as the build does. `upload`: a tar in place of the client's
        directory. `inputs`: images that contexts may name.

        Raises: NotImplementedHere, what the builder raises; a failing command with BuildKit's words.
        """
        attributes.check_frontend(frontend, asked_for.get("source", ""))
        session = await self._sessions.find(build.session)
        asked = attributes.read(asked_for, session.credentials)
        teller = Graph(build.progress)
        async with AsyncExitStack() as stack:
            context = await self._context(build, session, asked, upload, stack)
            named = {
                name: await self._named(build, session, name, value, inputs or {}, stack)
                for name, value in asked.named.items()
            }
            options = replace(asked.options, client=session, contexts=named)
            try:
                return await build.stack.enter_async_context(self.builder.building(context, options, teller))
            except CommandFailed as e:
                text = f'process "{e.command}" did not complete successfully: exit code: {e.code}'
                await teller.done(text)
                raise Error(text) from e
            except Error as e:
                await teller.done(str(e))
                raise

    # ---- what is built from ----

    async def _context(
        self,
        build: Build,
        session: ClientSession,
        asked: Asked,
        upload: AsyncIterator[bytes] | None,
        stack: AsyncExitStack,
    ) -> Context:
        if asked.context == UPLOAD or asked.context.startswith(_UPLOADED):
            body = upload if upload is not None else _uploaded(session, asked.context)
            return await stack.enter_async_context(contexts.received(body, self._scratch, asked.options.dockerfile))
        if asked.context.startswith(("http://", "https://")) and not asked.context.partition("#")[0].endswith(".git"):
            response = await stack.enter_async_context(self._fetcher.response(asked.context))
            return await stack.enter_async_context(
                contexts.received(response.pieces, self._scratch, asked.options.dockerfile)
            )
        if asked.context:
            raise NotImplementedHere(f"context {asked.context} is not offered: clone it and send its files")
        text, own_ignore = await self._dockerfile(build, session, asked, stack)
        parsed = parser.parse(text)
        attributes.check_syntax(parsed.directives.get("syntax", ""))
        follow = _needed(recipe(parsed))
        if follow is None:
            root = await self._directory(stack)
        else:
            excluded = own_ignore if own_ignore is not None else await self._ignored(build, session, asked, stack)
            wanted = Wanted(asked.context_key, excluded, follow)
            root = await self._kept(session, wanted, stack)
            vertex = await build.progress.vertex("[internal] load build context")
            size = await self._received(vertex, session, wanted, root)
            await vertex.status(f"transferring context: {size}B", size, done=True)
            await vertex.end()
        return Context(root, text, Ignore(()))

    async def _dockerfile(
        self, build: Build, session: ClientSession, asked: Asked, stack: AsyncExitStack
    ) -> tuple[bytes, list[str] | None]:
        """(its text, the patterns of an ignore file of its own)."""
        name = posixpath.normpath("/" + asked.options.dockerfile).lstrip("/")
        own = f"{name}.dockerignore"
        root = await self._directory(stack)
        vertex = await build.progress.vertex(f"[internal] load build definition from {name}")
        wanted = Wanted(asked.dockerfile_key, (), (name, own, name.lower()))
        size = await self._received(vertex, session, wanted, root)
        await vertex.status(f"transferring dockerfile: {size}B", size, done=True)
        try:
            text = await asyncio.to_thread(contexts.read_dockerfile, root, name)
        except InvalidArgument as e:
            await vertex.end(str(e))
            raise
        await vertex.end()
        return text, await asyncio.to_thread(contexts.ignore_patterns, root, own)

    async def _ignored(self, build: Build, session: ClientSession, asked: Asked, stack: AsyncExitStack) -> list[str]:
        root = await self._directory(stack)
        vertex = await build.progress.vertex("[internal] load .dockerignore")
        size = await self._received(vertex, session, Wanted(asked.context_key, (), (".dockerignore",)), root)
        await vertex.status(f"transferring context: {size}B", size, done=True)
        await vertex.end()
        return await asyncio.to_thread(contexts.ignore_patterns, root, ".dockerignore") or []

    async def _named(
        self,
        build: Build,
        session: ClientSession,
        name: str,
        value: str,
        inputs: Mapping[str, str],
        stack: AsyncExitStack,
    ) -> NamedContext:
        kind, _, rest = value.partition(":")
        if kind == "input" and rest in inputs:
            return NamedContext(image=inputs[rest])
        if kind == "docker-image":
            return NamedContext(image=rest.removeprefix("//"))
        if kind != "local":
            raise NotImplementedHere(f"build context {name}: {kind} is not offered")
        root = await self._directory(stack)
        vertex = await build.progress.vertex(f"[context {name}] load from client")
        size = await self._received(vertex, session, Wanted(rest), root)
        await vertex.status(f"transferring {name}: {size}B", size, done=True)
        await vertex.end()
        return NamedContext(root=root)

    async def _received(self, vertex: Running, session: ClientSession, wanted: Wanted, root: int) -> int:
        try:
            return await receive(session.files(), wanted, root)
        except (Error, OSError) as e:
            await vertex.end(str(e))
            raise

    async def _kept(self, session: ClientSession, wanted: Wanted, stack: AsyncExitStack) -> int:
        """An fd of a directory that has what this client sent for the same wish the last time, if it says who it is."""
        if not session.shared_key:
            return await self._directory(stack)
        path = await stack.enter_async_context(self._caches.context(f"{session.shared_key}\0{wanted!r}"))
        root = paths.open_root(path)
        stack.callback(os.close, root)
        return root

    async def _directory(self, stack: AsyncExitStack) -> int:
        """An fd of a new directory, which goes with the stack."""
        path = await asyncio.to_thread(tempfile.mkdtemp, prefix=PREFIXES[0], dir=self._scratch)
        stack.push_async_callback(asyncio.to_thread, shutil.rmtree, path, True)
        root = paths.open_root(path)
        stack.callback(os.close, root)
        return root


async def _uploaded(session: ClientSession, url: str) -> AsyncIterator[bytes]:
    """What the client was given on its standard input."""
    with translated("the build's client"):
        async with session.upload().open(metadata=[("urlpath", "/" + url.removeprefix(_UPLOADED))]) as stream:
            await stream.send_request()
            await stream.end()
            while (message := await stream.recv_message()) is not None:
                yield message.data


def _needed(whole: Recipe) -> Sequence[str] | None:
    """The paths of the context that the Dockerfile names; () for all of it, None for nothing.

    A path with a variable in it can be any.
    """
    found: set[str] = set()
    for stage in whole.stages:
        for instruction in stage.instructions:
            found.update(_sources(instruction, whole.escape))
    if any("$" in path or path in ("", ".", "/") for path in found):
        return ()
    return sorted(found) or None


def _sources(instruction: Instruction, escape: str) -> list[str]:
    if instruction.name == "ONBUILD":
        return []  # for another build
    flags = dict(instruction.flags)
    if instruction.name in ("COPY", "ADD") and "from" not in flags:
        listed = instruction.listed()
        given = list(listed) if listed is not None else words.split(instruction.text, escape)
        plain = [words.expand(path, {}, escape) if "$" not in path else path for path in given[:-1]]
        return [posixpath.normpath("/" + path).lstrip("/") for path in plain if "://" not in path and "<<" not in path]
    found: list[str] = []
    for name, value in instruction.flags if instruction.name == "RUN" else ():
        pairs = dict(pair.partition("=")[::2] for pair in value.split(","))
        if name == "mount" and pairs.get("type", "bind") == "bind" and "from" not in pairs:
            path = pairs.get("source", pairs.get("src", ""))
            found.append(path if "$" in path else posixpath.normpath("/" + path).lstrip("/"))
    return found
