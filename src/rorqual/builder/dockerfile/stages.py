"""A Dockerfile's stages: what each builds on, which of them a target needs.

Source: Dockerfile reference ("FROM", "ARG"); texts as buildkit's frontend/dockerfile/instructions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rorqual.builder.dockerfile.parser import Dockerfile, Instruction
from rorqual.builder.dockerfile.words import expand, split
from rorqual.errdefs import InvalidArgument

_NAME = re.compile(r"[a-z][a-z0-9-_.]*\Z")


@dataclass(frozen=True, slots=True)
class Stage:
    """FROM and what follows it. `base` and `platform` with their variables in them still."""

    index: int
    name: str
    base: str
    platform: str
    origin: Instruction
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """The stages, and the ARGs before the first of them."""

    arguments: tuple[Instruction, ...]
    stages: tuple[Stage, ...]
    escape: str

    def find(self, name: str, before: int) -> Stage | None:
        """The stage of that name or number among those before the stage `before`."""
        for stage in reversed(self.stages[:before]):
            if stage.name and stage.name == name.lower():
                return stage
        if name.isascii() and name.isdigit() and int(name) < min(before, len(self.stages)):
            return self.stages[int(name)]
        return None

    def target(self, name: str) -> Stage:
        """The stage to build; the last one for "". Raises: InvalidArgument."""
        if not name:
            return self.stages[-1]
        found = self.find(name, len(self.stages))
        if found is None:
            raise InvalidArgument(f'target stage "{name}" could not be found')
        return found

    def needed(self, target: Stage, arguments: Mapping[str, str]) -> tuple[Stage, ...]:
        """The stages that building `target` takes, in their order; `arguments` are the values of the global ARGs."""
        wanted = {target.index}
        for stage in reversed(self.stages[: target.index + 1]):
            if stage.index not in wanted:
                continue
            for name in self._sources(stage, arguments):
                other = self.find(name, stage.index)
                if other is not None:
                    wanted.add(other.index)
        return tuple(stage for stage in self.stages if stage.index in wanted)

    def _sources(self, stage: Stage, arguments: Mapping[str, str]) -> list[str]:
        found = [expand(stage.base, arguments, self.escape)]
        for instruction in stage.instructions:
            for name, value in instruction.flags:
                if name == "from":
                    found.append(value)
                elif name == "mount":
                    found += [pair[5:] for pair in value.split(",") if pair.startswith("from=")]
        return found


def recipe(dockerfile: Dockerfile) -> Recipe:
    """Raises: InvalidArgument, naming the line."""
    arguments: list[Instruction] = []
    groups: list[tuple[Instruction, list[Instruction]]] = []
    for instruction in dockerfile.instructions:
        if instruction.name == "FROM":
            groups.append((instruction, []))
        elif groups:
            groups[-1][1].append(instruction)
        elif instruction.name == "ARG":
            arguments.append(instruction)
        else:
            raise InvalidArgument(
                f"dockerfile parse error on line {instruction.line}: no build stage in current context"
            )
    if not groups:
        raise InvalidArgument("dockerfile contains no stages to build")
    stages = [_stage(number, origin, rest) for number, (origin, rest) in enumerate(groups)]
    return Recipe(tuple(arguments), tuple(stages), dockerfile.escape)


def _stage(number: int, origin: Instruction, rest: Sequence[Instruction]) -> Stage:
    where = f"dockerfile parse error on line {origin.line}: "
    parts = split(origin.text)
    name = ""
    if len(parts) == 3 and parts[1].upper() == "AS":
        name = parts[2].lower()
        if not _NAME.match(name):
            raise InvalidArgument(
                f'{where}invalid name for build stage: "{parts[2]}", name can\'t start with a number or contain symbols'
            )
    elif len(parts) != 1:
        raise InvalidArgument(f"{where}FROM requires either one or three arguments")
    flags = dict(origin.flags)
    platform = flags.pop("platform", "")
    if flags:
        raise InvalidArgument(f"{where}unknown flag: --{next(iter(flags))}")
    return Stage(number, name, parts[0], platform, origin, tuple(rest))
