"""What images, containers and volumes take on disk. Source: Engine API SystemDataUsage; moby daemon/disk_usage.go."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from typing import Protocol

from rorqual.api.container import ContainerSummary
from rorqual.api.diskusage import BuildCache, DiskUsage, UsageOf
from rorqual.api.image import ImageSummary
from rorqual.api.system import Volume as APIVolume
from rorqual.api.system import VolumeUsage
from rorqual.daemon.services import clock
from rorqual.daemon.services.containers import views as container_views
from rorqual.daemon.services.containers.record import Container
from rorqual.daemon.services.containers.registry import Registry
from rorqual.daemon.services.filters import Filters
from rorqual.daemon.services.images.library import Library
from rorqual.daemon.services.images.sizes import Sizes
from rorqual.daemon.services.images.views import Views
from rorqual.daemon.services.volumes import Volumes, size_of
from rorqual.errdefs import InvalidArgument, NotFound

KINDS = frozenset({"container", "image", "volume", "build-cache"})


class Caches(Protocol):
    """services.build.caches."""

    async def records(self) -> list[BuildCache]:
        """What is kept for builds."""


class SnapshotUsage(Protocol):
    """containerd's snapshots."""

    async def usage(self, key: str) -> int:
        """Bytes of a snapshot's own files. Raises: NotFound."""


class References(Protocol):
    """Who uses volumes."""

    def volume_users(self, name: str) -> list[str]:
        """Ids of the containers with the volume mounted."""


class DiskUsages:
    """Asks the services; one measurement at a time serves everybody who asks meanwhile."""

    def __init__(
        self,
        library: Library,
        views: Views,
        sizes: Sizes,
        registry: Registry,
        snapshots: SnapshotUsage,
        volumes: Volumes,
        references: References,
        caches: Caches,
    ) -> None:
        self._library = library
        self._views = views
        self._sizes = sizes
        self._registry = registry
        self._snapshots = snapshots
        self._volumes = volumes
        self._references = references
        self._caches = caches
        self._busy = asyncio.Lock()

    async def measure(self, kinds: Collection[str], *, verbose: bool) -> DiskUsage:
        """Of `kinds` (all when empty). Raises: InvalidArgument."""
        for kind in kinds:
            if kind not in KINDS:
                raise InvalidArgument(f"unknown object type: {kind}")
        wanted = set(kinds) or KINDS
        usage = DiskUsage()
        async with self._busy:
            if "image" in wanted:
                usage = await self._with_images(usage, verbose=verbose)
            if "container" in wanted:
                usage = await self._with_containers(usage, verbose=verbose)
            if "volume" in wanted:
                usage = await self._with_volumes(usage, verbose=verbose)
        if "build-cache" in wanted:
            usage = await self._with_build_cache(usage, verbose=verbose)
        return usage

    async def _with_build_cache(self, usage: DiskUsage, *, verbose: bool) -> DiskUsage:
        records = tuple(await self._caches.records())
        total = sum(record.size for record in records)
        free = sum(record.size for record in records if not record.in_use)
        active = sum(record.in_use for record in records)
        of = UsageOf(active, len(records), free, total, records if verbose else None)
        return replace(usage, build_cache=records, builder_size=total, build_cache_usage=of)

    async def _with_images(self, usage: DiskUsage, *, verbose: bool) -> DiskUsage:
        images: tuple[ImageSummary, ...] = tuple(await self._views.summaries(Filters(), everything=False, shared=True))
        await self._sizes.learn(image.image for image in self._library.all_by_id().values())
        total = self._views.layers_bytes()
        used = {chain for c in self._registry for chain in self._chains_of(c)}
        kept = sum(self._sizes.layer(chain) for chain in used)
        active = sum(image.containers > 0 for image in images)
        of = UsageOf(active, len(images), max(total - kept, 0), total, images if verbose else None)
        return replace(usage, images=images, layers_size=total, image_usage=of)

    def _chains_of(self, container: Container) -> tuple[str, ...]:
        image = self._library.all_by_id().get(container.image_id)
        return tuple(image.image.chain_ids) if image is not None else ()

    async def _with_containers(self, usage: DiskUsage, *, verbose: bool) -> DiskUsage:
        containers = tuple([await self._container(c) for c in self._registry])
        total = sum(c.size_rw or 0 for c in containers)
        alive = [c for c in containers if c.state in ("running", "paused", "restarting")]
        reclaimable = total - sum(c.size_rw or 0 for c in alive)
        of = UsageOf(len(alive), len(containers), reclaimable, total, containers if verbose else None)
        return replace(usage, containers=containers, container_usage=of)

    async def _container(self, container: Container) -> ContainerSummary:
        try:
            own = await self._snapshots.usage(container.snapshot_key)
        except NotFound:
            own = 0
        image = sum(self._sizes.layer(chain) for chain in self._chains_of(container))
        summary = container_views.summary(container, container.config.image, clock.now_ns())
        return replace(summary, size_rw=own, size_rootfs=own + image)

    async def _with_volumes(self, usage: DiskUsage, *, verbose: bool) -> DiskUsage:
        volumes: list[APIVolume] = []
        for volume in self._volumes.summaries(Filters()):
            size = await asyncio.to_thread(size_of, volume.mountpoint)
            users = len(self._references.volume_users(volume.name))
            volumes.append(replace(volume, usage_data=VolumeUsage(size, users)))
        known = [v.usage_data for v in volumes if v.usage_data is not None]
        total = sum(data.size for data in known)
        free = sum(data.size for data in known if not data.ref_count)
        active = sum(data.ref_count > 0 for data in known)
        of = UsageOf(active, len(volumes), free, total, tuple(volumes) if verbose else None)
        return replace(usage, volumes=tuple(volumes), volume_usage=of)
