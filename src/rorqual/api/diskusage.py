"""GET /system/df. Source: Engine API 1.56, SystemDataUsage; before 1.52 the lists stood by themselves."""

# ruff: noqa: RUF009  (wire() declares a field, as dataclasses.field does)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rorqual.api.codec import wire
from rorqual.api.container import ContainerSummary
from rorqual.api.image import ImageSummary
from rorqual.api.system import Volume


@dataclass(frozen=True, slots=True)
class UsageOf:
    """Of one kind: how many, how many in use, bytes in all and to be won. `items` only when asked for."""

    active_count: int = wire("ActiveCount", 0)
    total_count: int = wire("TotalCount", 0)
    reclaimable: int = wire("Reclaimable", 0)
    total_size: int = wire("TotalSize", 0)
    items: tuple[Any, ...] | None = wire("Items", None, omit=True)


@dataclass(frozen=True, slots=True)
class BuildCache:
    """What is kept for builds, beside images. Times in RFC 3339."""

    id: str = wire("ID", "")
    type: str = wire("Type", "")
    description: str = wire("Description", "")
    in_use: bool = wire("InUse", False)
    shared: bool = wire("Shared", False)
    size: int = wire("Size", 0)
    created_at: str = wire("CreatedAt", "")
    last_used_at: str = wire("LastUsedAt", "")
    usage_count: int = wire("UsageCount", 0)


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Both forms; a kind that was not asked for is absent."""

    layers_size: int = wire("LayersSize", 0)
    images: tuple[ImageSummary, ...] | None = wire("Images", None)
    containers: tuple[ContainerSummary, ...] | None = wire("Containers", None)
    volumes: tuple[Volume, ...] | None = wire("Volumes", None)
    build_cache: tuple[BuildCache, ...] | None = wire("BuildCache", None)
    builder_size: int = wire("BuilderSize", 0)
    image_usage: UsageOf | None = wire("ImageUsage", None, omit=True)
    container_usage: UsageOf | None = wire("ContainerUsage", None, omit=True)
    volume_usage: UsageOf | None = wire("VolumeUsage", None, omit=True)
    build_cache_usage: UsageOf | None = wire("BuildCacheUsage", None, omit=True)
