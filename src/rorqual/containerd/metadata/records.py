"""The records that the stores hand out. Times in nanoseconds since 1970, sizes in bytes."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a name points at."""

    media_type: str
    digest: str
    size: int
    annotations: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Image:
    """A name for content."""

    name: str
    target: Descriptor
    labels: Labels = field(default_factory=dict)
    created_ns: int = 0
    updated_ns: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """Holds its resources against garbage collection."""

    id: str
    labels: Labels
    created_ns: int


@dataclass(frozen=True, slots=True)
class Resource:
    """Something a lease holds: type "content", "snapshots/<snapshotter>", "ingests" or "images"."""

    type: str
    id: str


@dataclass(frozen=True, slots=True)
class ContentInfo:
    """A blob, as one namespace sees it."""

    digest: str
    size: int
    labels: Labels
    created_ns: int
    updated_ns: int


class Kind(enum.IntEnum):
    """Of a snapshot; the numbers of snapshots.proto."""

    UNKNOWN = 0
    VIEW = 1
    ACTIVE = 2
    COMMITTED = 3


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`name` is the key while active or view; `id` names its directory; `parent` is a name, `parent_id` its id."""

    id: int
    name: str
    parent: str
    parent_id: int | None
    kind: Kind
    labels: Labels
    created_ns: int
    updated_ns: int


@dataclass(frozen=True, slots=True)
class Pending:
    """What a layer needs of those below it: `directories` that it has without an entry, parents first; `links`, its
    hard links (name, target) to files that it has not."""

    directories: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Pending:
        """As a worker that unpacked a layer tells it."""
        return cls(tuple(result["implied"]), tuple((name, target) for name, target in result["links"]))


@dataclass(frozen=True, slots=True)
class Usage:
    """Disk usage: `size` in bytes."""

    size: int
    inodes: int


def dump(labels: Labels) -> str:
    """Labels as stored."""
    return json.dumps(dict(labels), separators=(",", ":"), sort_keys=True) if labels else "{}"


def load(text: str) -> dict[str, str]:
    """Stored labels."""
    if text == "{}":
        return {}
    labels: dict[str, str] = json.loads(text)
    return labels


def masked_labels(old: Labels, new: Labels, paths: list[str]) -> dict[str, str]:
    """The labels after an update: `paths` "labels" replaces all, "labels.x" sets x or removes it when not given."""
    labels = dict(old)
    for path in paths:
        if path == "labels":
            labels = {k: v for k, v in new.items() if v}
        elif path.startswith("labels."):
            key = path.removeprefix("labels.")
            if new.get(key):
                labels[key] = new[key]
            else:
                labels.pop(key, None)
    return labels
