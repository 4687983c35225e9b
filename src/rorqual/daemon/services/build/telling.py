"""How a build tells what it does: one `Teller`, a form of it for each kind of client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rorqual.builder.dockerfile.parser import Instruction
from rorqual.builder.dockerfile.stages import Stage
from rorqual.daemon.services.build.options import Line
from rorqual.oci.reference import Reference

_RED, _PLAIN = "\x1b[91m", "\x1b[0m"  # what a command says on stderr, as dockerd tells it


@dataclass(frozen=True, slots=True)
class Step:
    """`number` from 1 of `total`; `stage` (of so many `stages`) and `instruction` where it is one's.

    `base`: the image that the stage begins with; "" where that is another stage, or nothing.
    """

    number: int
    total: int
    text: str
    stages: int = 1
    stage: Stage | None = None
    instruction: Instruction | None = None
    base: str = ""


class Teller(Protocol):
    """Told in the order in which things happen."""

    async def step(self, step: Step) -> None:
        """A step begins; the one before has ended."""

    async def cached(self) -> None:
        """The step's image was here."""

    async def made(self, id: str) -> None:
        """The step's image."""

    async def running(self, container: str) -> None:
        """A container runs the step's command."""

    async def removed(self, container: str) -> None:
        """It is gone."""

    async def output(self, text: str, *, error: bool) -> None:
        """What the step's command says."""

    async def pulling(self, message: Mapping[str, Any]) -> None:
        """A line of a pull's progress, as the Engine API has it."""

    async def note(self, text: str) -> None:
        """For whom it may concern."""

    async def built(self, id: str) -> None:
        """All steps are done."""

    async def tagged(self, tag: Reference) -> None:
        """The image has that name."""


class Classic:
    """The lines of POST /build. Source: moby's builder/dockerfile."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def step(self, step: Step) -> None:
        """See Teller."""
        await self._line({"stream": f"Step {step.number}/{step.total} : {step.text}"})
        await self._line({"stream": "\n"})

    async def cached(self) -> None:
        """See Teller."""
        await self._line({"stream": " ---> Using cache\n"})

    async def made(self, id: str) -> None:
        """See Teller."""
        await self._line({"stream": f" ---> {short(id)}\n"})

    async def running(self, container: str) -> None:
        """See Teller."""
        await self._line({"stream": f" ---> Running in {container}\n"})

    async def removed(self, container: str) -> None:
        """See Teller."""
        await self._line({"stream": f" ---> Removed intermediate container {container}\n"})

    async def output(self, text: str, *, error: bool) -> None:
        """See Teller."""
        await self._line({"stream": f"{_RED}{text}{_PLAIN}" if error else text})

    async def pulling(self, message: Mapping[str, Any]) -> None:
        """See Teller."""
        await self._line(message)

    async def note(self, text: str) -> None:
        """See Teller."""
        await self._line({"stream": f"{text}\n"})

    async def built(self, id: str) -> None:
        """See Teller."""
        await self._line({"aux": {"ID": id}})
        await self._line({"stream": f"Successfully built {short(id)}\n"})

    async def tagged(self, tag: Reference) -> None:
        """See Teller."""
        await self._line({"stream": f"Successfully tagged {tag.familiar}\n"})


def short(id: str) -> str:
    """An ID as progress shows it."""
    return id.removeprefix("sha256:")[:12]
