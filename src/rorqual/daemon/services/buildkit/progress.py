"""A build's progress as BuildKit's clients draw it: vertices that begin, say something and end.

Progress holds what was said until somebody follows, then passes it on at that client's pace.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from rorqual.daemon.services import clock
from rorqual.daemon.services.build.telling import Step
from rorqual.errdefs import Error
from rorqual.oci import reference as references
from rorqual.oci.reference import Reference
from rorqual.rpc.proto.buildkit_control_pb2 import StatusResponse, Vertex, VertexLog, VertexStatus

_WAITING_MAX = 4096  # messages that nobody took: more wait until somebody does
_COUNTED = frozenset(("RUN", "COPY", "ADD", "WORKDIR"))  # the instructions that are vertices


def now() -> Timestamp:
    """The time as messages have it."""
    stamp = Timestamp()
    stamp.FromNanoseconds(clock.now_ns())
    return stamp


class Progress:
    """Of one build."""

    def __init__(self, ref: str) -> None:
        self._ref = ref
        self._serial = 0
        self._waiting: deque[StatusResponse] = deque()
        self._changed = asyncio.Condition()
        self._followers = 0
        self._ended = False

    async def say(self, message: StatusResponse) -> None:
        """Pass it on; waits for a client that is slow, and drops what nobody ever took."""
        async with self._changed:
            if len(self._waiting) >= _WAITING_MAX:
                if not self._followers:
                    self._waiting.popleft()
                await self._changed.wait_for(lambda: len(self._waiting) < _WAITING_MAX or not self._followers)
            self._waiting.append(message)
            self._changed.notify_all()

    async def end(self) -> None:
        """Nothing more is said."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def follow(self) -> AsyncIterator[StatusResponse]:
        """What is said, to the end; what was said before anybody followed goes to the first."""
        self._followers += 1
        try:
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._waiting or self._ended)
                    if not self._waiting:
                        return
                    message = self._waiting.popleft()
                    self._changed.notify_all()
                yield message
        finally:
            self._followers -= 1
            async with self._changed:
                self._changed.notify_all()

    async def vertex(self, name: str) -> Running:
        """A vertex that begins now."""
        self._serial += 1
        digest = hashlib.sha256(f"{self._ref}\0{self._serial}\0{name}".encode()).hexdigest()
        running = Running(self, Vertex(digest=f"sha256:{digest}", name=name, started=now()))
        await running.tell()
        return running


class Running:
    """A vertex under way."""

    def __init__(self, progress: Progress, vertex: Vertex) -> None:
        self._progress = progress
        self._vertex = vertex

    async def tell(self) -> None:
        """How it is."""
        copy = Vertex()
        copy.CopyFrom(self._vertex)
        await self._progress.say(StatusResponse(vertexes=[copy]))

    async def cached(self) -> None:
        """What it would do was done before."""
        self._vertex.cached = True
        await self.tell()

    async def log(self, text: str, *, error: bool = False) -> None:
        """It says something."""
        entry = VertexLog(vertex=self._vertex.digest, timestamp=now(), stream=2 if error else 1, msg=text.encode())
        await self._progress.say(StatusResponse(logs=[entry]))

    async def status(self, name: str, current: int = 0, total: int = 0, *, done: bool = False) -> None:
        """A part of it, by its name."""
        vertex = self._vertex
        part = VertexStatus(ID=name, vertex=vertex.digest, name=name, current=current, total=total, timestamp=now())
        part.started.CopyFrom(vertex.started)
        if done:
            part.completed.CopyFrom(part.timestamp)
        await self._progress.say(StatusResponse(statuses=[part]))

    async def end(self, error: str = "") -> None:
        """It is done, or failed."""
        self._vertex.completed.CopyFrom(now())
        self._vertex.error = error
        await self.tell()


class Graph:
    """A build's steps as vertices: build.telling.Teller."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._vertex: Running | None = None
        self._counts: dict[int, int] = {}

    async def step(self, step: Step) -> None:
        """See Teller."""
        await self.done()
        if name := self._named(step):
            self._vertex = await self._progress.vertex(name)

    async def done(self, error: str = "") -> None:
        """The last step has ended."""
        vertex, self._vertex = self._vertex, None
        if vertex is not None:
            await vertex.end(error)

    def _named(self, step: Step) -> str:
        """`[build 2/5] RUN make`; "" for a step that only changes the config."""
        stage, instruction = step.stage, step.instruction
        if stage is None or instruction is None or instruction.name not in _COUNTED | {"FROM"}:
            return ""
        if instruction.name == "FROM" and not step.base:
            return ""
        total = bool(step.base) + sum(one.name in _COUNTED for one in stage.instructions)
        number = self._counts[stage.index] = self._counts.get(stage.index, 0) + 1
        name = stage.name or (f"stage-{stage.index}" if step.stages > 1 else "")
        text = step.text if instruction.name != "FROM" else f"FROM {_whole(step.base)}"
        return f"[{name + ' ' if name else ''}{number:{len(str(total))}}/{total}] {text}"

    async def cached(self) -> None:
        """See Teller."""
        if self._vertex is not None:
            await self._vertex.cached()

    async def made(self, id: str) -> None:
        """See Teller."""

    async def running(self, container: str) -> None:
        """See Teller."""

    async def removed(self, container: str) -> None:
        """See Teller."""

    async def output(self, text: str, *, error: bool) -> None:
        """See Teller."""
        if self._vertex is not None:
            await self._vertex.log(text, error=error)

    async def pulling(self, message: Mapping[str, Any]) -> None:
        """See Teller."""
        detail = message.get("progressDetail") or {}
        if self._vertex is not None and message.get("id") and detail.get("total"):
            current, total = detail.get("current", 0), detail["total"]
            await self._vertex.status(f"{message['status'].lower()} {message['id']}", current, total)

    async def note(self, text: str) -> None:
        """See Teller."""
        if self._vertex is not None:
            await self._vertex.log(f"{text}\n", error=True)

    async def built(self, id: str) -> None:
        """See Teller."""
        await self.done()

    async def tagged(self, tag: Reference) -> None:
        """See Teller."""


def _whole(name: str) -> str:
    """An image's whole name."""
    try:
        return str(references.parse(name).with_default_tag())
    except Error:
        return name
