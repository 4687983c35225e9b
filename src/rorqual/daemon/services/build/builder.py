"""POST /build: a Dockerfile's stages, instruction by instruction, each the image of the next; what is known is reused.

Source: Dockerfile reference; Engine API ImageBuild; the lines of the answer as moby's builder/dockerfile.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from rorqual.builder.dockerfile import words
from rorqual.builder.dockerfile.parser import parse
from rorqual.builder.dockerfile.stages import Stage, recipe
from rorqual.daemon.services import clock
from rorqual.daemon.services.build.context import Context
from rorqual.daemon.services.build.images import State, begun
from rorqual.daemon.services.build.options import BuildOptions
from rorqual.daemon.services.build.session import Arguments, Parts, Session
from rorqual.daemon.services.build.stage import PROXIES, StageBuild
from rorqual.daemon.services.build.telling import Teller
from rorqual.daemon.services.events import Events
from rorqual.errdefs import InvalidArgument, NotImplementedHere
from rorqual.oci import platform as platforms
from rorqual.oci.reference import Reference


class Builder:
    """Builds images."""

    def __init__(self, parts: Parts, events: Events) -> None:
        self._parts = parts
        self._events = events

    async def build(self, context: Context, options: BuildOptions, teller: Teller) -> str:
        """The image's ID, tagged as asked for; `teller` is told what is done. Raises: as building."""
        async with self.building(context, options, teller) as id:
            for tag in options.tags:
                await self.tag(id, tag, teller)
        return id

    @asynccontextmanager
    async def building(self, context: Context, options: BuildOptions, teller: Teller) -> AsyncIterator[str]:
        """The image's ID, which nobody removes in the block.

        Raises: InvalidArgument (the Dockerfile), CommandFailed, NotFound, and what the steps raise.
        """
        whole = recipe(parse(context.dockerfile))
        async with self._parts.lease.held():
            with self._parts.holds.of_build() as hold:
                state = await _target(Session(self._parts, context, options, teller, whole, hold))
                yield state.id

    async def tag(self, id: str, tag: Reference, teller: Teller) -> None:
        """The image has that name from now on."""
        image = await self._parts.library.find(id)
        await self._parts.library.put(str(tag), image, clock.now_ns())
        self._events.publish("image", "tag", image.id, {**image.image.config.labels, "name": tag.familiar})
        await teller.tagged(tag)


async def _target(session: Session) -> State:
    """The target's stage, built with all that it needs."""
    options, whole = session.options, session.recipe
    target = whole.target(options.target)
    arguments = Arguments(dict(session.automatic()))
    for instruction in whole.arguments:
        session.declare(instruction, arguments, arguments.known(), {})
    stages = whole.needed(target, arguments.known())
    session.steps = len(whole.arguments) + sum(1 + len(stage.instructions) for stage in stages) + bool(options.labels)
    await session.borrow()
    for instruction in whole.arguments:
        await session.begin(instruction.original)
    for stage in stages:
        session.done[stage.index] = await _stage(session, stage, arguments, last=stage is target)
    state = session.done[target.index]
    if state.image is None:
        raise InvalidArgument("No image was generated. Is your Dockerfile empty?")
    unused = sorted(options.arguments.keys() - session.consumed - PROXIES)
    if unused:
        await session.teller.note(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed")
    await session.teller.built(state.id)
    return state


async def _stage(session: Session, stage: Stage, arguments: Arguments, *, last: bool) -> State:
    name = words.expand(stage.base, arguments.known(), session.recipe.escape)
    outside = name != "scratch" and session.recipe.find(name, stage.index) is None
    base = name if outside else ""
    await session.begin(stage.origin.original, stage, stage.origin, base)
    work = StageBuild(session, stage, await _base(session, stage, name, arguments.known()), arguments)
    await session.teller.made(work.state.id)
    triggers = work.state.config.on_build or ()
    if triggers:
        await session.teller.note(f"# Executing {len(triggers)} build trigger{'s' if len(triggers) > 1 else ''}")
        work.state = replace(work.state, config=replace(work.state.config, on_build=None))
        if session.context.complete is not None:
            await session.context.complete()
        for instruction in parse("\n".join(triggers).encode()).instructions:
            await work.do(instruction)
    for instruction in stage.instructions:
        await session.begin(instruction.original, stage, instruction, base)
        try:
            await work.do(instruction)
        except InvalidArgument as e:
            raise InvalidArgument(f"dockerfile parse error on line {instruction.line}: {e}") from e
        await session.teller.made(work.state.id)
    if last and session.options.labels:
        pairs = sorted(session.options.labels.items())
        text = "LABEL " + " ".join(f"{json.dumps(name)}={json.dumps(value)}" for name, value in pairs)
        await session.begin(text)
        await work.label(session.options.labels, text)
        await session.teller.made(work.state.id)
    return work.state


async def _base(session: Session, stage: Stage, name: str, arguments: Mapping[str, str]) -> State:
    """What FROM names: `name`, its variables replaced."""
    platform = session.options.platform
    if stage.platform:
        platform = platforms.parse(words.expand(stage.platform, arguments, session.recipe.escape))
    if not name:
        raise InvalidArgument(f"base name ({stage.base}) should not be blank")
    if (named := session.options.contexts.get(name)) is not None:
        if named.root >= 0:
            raise NotImplementedHere(f"FROM {name}: a directory as a stage's base is not offered")
        name = named.image
    elif (other := session.recipe.find(name, stage.index)) is not None:
        return session.done[other.index]
    image = await session.image(name, platform) if name != "scratch" else None
    return begun(image, platform or session.host)
