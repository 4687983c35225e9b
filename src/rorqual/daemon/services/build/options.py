"""What a build was asked for. Source: Engine API ImageBuild."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rorqual.api.config import HostConfig
from rorqual.distribution.credentials import Credentials
from rorqual.oci.platform import Platform
from rorqual.oci.reference import Reference

# Takes one line of the answer.
Line = Callable[[Mapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """`arguments`: None stands for one named without a value. `host`: limits and network of RUN's containers.

    `remove`: containers of steps that succeeded go, `force_remove`: all do. `credentials` by registry.
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
    credentials: Mapping[str, Credentials] = field(default_factory=dict)
