"""What a build was asked for. Source: Engine API ImageBuild."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from rorqual.api.config import HostConfig
from rorqual.distribution.credentials import ANONYMOUS, Credentials
from rorqual.oci.platform import Platform
from rorqual.oci.reference import Reference

# Takes one line of the answer.
Line = Callable[[Mapping[str, Any]], Awaitable[None]]


class Client(Protocol):
    """What a client with a session gives to commands."""

    async def secret(self, id: str) -> bytes | None:
        """Its bytes; None for one that the client was not given."""

    async def has_agent(self, id: str) -> bool:
        """Whether it forwards the ssh agent `id`."""

    async def forward(self, id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection to that agent, to its end."""


@dataclass(frozen=True, slots=True)
class NamedContext:
    """What `--build-context` names: an image, or files below `root`, an O_PATH fd."""

    image: str = ""
    root: int = -1


async def anonymous(domain: str) -> Credentials:
    """For every registry."""
    return ANONYMOUS


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """`arguments`: None stands for one named without a value. `host`: limits and network of RUN's containers.

    `remove`: containers of steps that succeeded go, `force_remove`: all do. `credentials` gives those of a registry.
    `uncached`: stages that are built anew. `client`: who has a session; without one, Docker's classic builder is meant.
    """

    dockerfile: str = "Dockerfile"
    tags: tuple[Reference, ...] = ()
    target: str = ""
    arguments: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    host: HostConfig = field(default_factory=HostConfig)
    platform: Platform | None = None
    cache: bool = True
    cache_from: tuple[str, ...] = ()
    pull: bool = False
    quiet: bool = False
    remove: bool = True
    force_remove: bool = False
    credentials: Callable[[str], Awaitable[Credentials]] = anonymous
    uncached: frozenset[str] = frozenset()
    contexts: Mapping[str, NamedContext] = field(default_factory=dict)
    client: Client | None = None
