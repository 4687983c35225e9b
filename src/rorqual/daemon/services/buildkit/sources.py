"""What a build is made from: the Dockerfile, its context and the contexts that it names, taken from the client."""

from __future__ import annotations

import asyncio
import os
import posixpath
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from rorqual.builder.dockerfile import parser, words
from rorqual.builder.dockerfile.parser import Instruction
from rorqual.builder.dockerfile.stages import Recipe, recipe
from rorqual.daemon.services.build import context as contexts
from rorqual.daemon.services.build.caches import Caches
from rorqual.daemon.services.build.context import PREFIXES, Context
from rorqual.daemon.services.build.fetching import Fetcher
from rorqual.daemon.services.build.options import NamedContext
from rorqual.daemon.services.buildkit.attributes import Asked, check_syntax
from rorqual.daemon.services.buildkit.filesync import Wanted, receive
from rorqual.daemon.services.buildkit.progress import Progress
from rorqual.daemon.services.buildkit.sessions import ClientSession
from rorqual.errdefs import Error, NotImplementedHere
from rorqual.linux import paths
from rorqual.patterns import Ignore
from rorqual.rpc.status import translated

_CONTEXT = "[internal] load build context"
UPLOAD = "upload-request"
_UPLOADED = "http://buildkit-session/"


@dataclass(frozen=True, slots=True)
class Sources:
    """Of one build, for as long as `stack` is open.

    `upload`: a tar in place of the client's directory. `inputs`: images that contexts may name. `scratch`: a directory
    of the daemon's own.
    """

    progress: Progress
    session: ClientSession
    asked: Asked
    fetcher: Fetcher
    caches: Caches
    scratch: str
    stack: AsyncExitStack
    upload: AsyncIterator[bytes] | None = None
    inputs: Mapping[str, str] | None = None

    async def context(self) -> Context:
        """Raises: InvalidArgument, NotImplementedHere, what the client refuses with, OSError."""
        url = self.asked.context
        if url == UPLOAD or url.startswith(_UPLOADED):
            return await self._unpacked(self.upload if self.upload is not None else _uploaded(self.session, url))
        if url.startswith(("http://", "https://")) and not url.partition("#")[0].endswith(".git"):
            return await self._unpacked((await self.stack.enter_async_context(self.fetcher.response(url))).pieces)
        if url:
            raise NotImplementedHere(f"context {url} is not offered: clone it and send its files")
        text, own_ignore = await self._dockerfile()
        parsed = parser.parse(text)
        check_syntax(parsed.directives.get("syntax", ""))
        follow = _needed(recipe(parsed))
        excluded = own_ignore if own_ignore is not None or follow is None else await self._ignored()
        wanted = Wanted(self.asked.context_key, excluded or (), follow or ())
        root = await self._directory() if follow is None else await self._kept(wanted)

        async def complete() -> None:
            left_out = excluded if excluded is not None else await self._ignored()
            await self._transfer(_CONTEXT, "context", Wanted(self.asked.context_key, left_out), root)

        if follow is not None:
            await self._transfer(_CONTEXT, "context", wanted, root)
        return Context(root, text, Ignore(()), complete)

    async def named(self) -> dict[str, NamedContext]:
        """Those of --build-context. Raises: as context."""
        return {name: await self._named(name, value) for name, value in self.asked.named.items()}

    async def _named(self, name: str, value: str) -> NamedContext:
        kind, _, rest = value.partition(":")
        if kind == "input" and self.inputs and rest in self.inputs:
            return NamedContext(image=self.inputs[rest])
        if kind == "docker-image":
            return NamedContext(image=rest.removeprefix("//"))
        if kind != "local":
            raise NotImplementedHere(f"build context {name}: {kind} is not offered")
        root = await self._kept(Wanted(rest))
        await self._transfer(f"[context {name}] load from client", name, Wanted(rest), root)
        return NamedContext(root=root)

    async def _dockerfile(self) -> tuple[bytes, list[str] | None]:
        """(its text, the patterns of an ignore file of its own)."""
        name = posixpath.normpath("/" + self.asked.options.dockerfile).lstrip("/")
        own = f"{name}.dockerignore"
        root = await self._directory()
        wanted = Wanted(self.asked.dockerfile_key, (), (name, own, name.lower()))
        vertex = f"[internal] load build definition from {name}"
        text = await self._transfer(vertex, "dockerfile", wanted, root, dockerfile=name)
        return text, await asyncio.to_thread(contexts.ignore_patterns, root, own)

    async def _ignored(self) -> list[str]:
        root = await self._directory()
        wanted = Wanted(self.asked.context_key, (), (".dockerignore",))
        await self._transfer("[internal] load .dockerignore", "context", wanted, root)
        return await asyncio.to_thread(contexts.ignore_patterns, root, ".dockerignore") or []

    async def _transfer(self, vertex: str, what: str, wanted: Wanted, root: int, *, dockerfile: str = "") -> bytes:
        """From the client into `root`, with its own vertex; the text of a `dockerfile` that is to be there."""
        running = await self.progress.vertex(vertex)
        try:
            size = await receive(self.session.files(), wanted, root)
            await running.status(f"transferring {what}: {size}B", size, done=True)
            text = await asyncio.to_thread(contexts.read_dockerfile, root, dockerfile) if dockerfile else b""
        except (Error, OSError) as e:
            await running.end(str(e))
            raise
        await running.end()
        return text

    async def _unpacked(self, pieces: AsyncIterator[bytes]) -> Context:
        received = contexts.received(pieces, self.scratch, self.asked.options.dockerfile)
        return await self.stack.enter_async_context(received)

    async def _kept(self, wanted: Wanted) -> int:
        """An fd of a directory that has what this client sent for the same wish the last time, if it says who it is."""
        if not self.session.shared_key:
            return await self._directory()
        path = await self.stack.enter_async_context(self.caches.context(f"{self.session.shared_key}\0{wanted!r}"))
        return self._opened(path)

    async def _directory(self) -> int:
        """An fd of a new directory."""
        path = await asyncio.to_thread(tempfile.mkdtemp, prefix=PREFIXES[0], dir=self.scratch)
        self.stack.push_async_callback(asyncio.to_thread, shutil.rmtree, path, True)
        return self._opened(path)

    def _opened(self, path: str) -> int:
        root = paths.open_root(path)
        self.stack.callback(os.close, root)
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
