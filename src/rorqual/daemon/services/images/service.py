"""What the API asks of images: pull, import, tag, remove, list, inspect, history."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from rorqual.api.config import HealthConfig
from rorqual.api.container import DriverData
from rorqual.api.image import (
    DeleteItem,
    HistoryItem,
    ImageConfig,
    ImageInspect,
    ImageMetadata,
    ImageRootFS,
    ImageSummary,
    OCIDescriptor,
)
from rorqual.daemon.services import clock
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.filters import Filters
from rorqual.daemon.services.images.library import DANGLING, Library, LocalImage, digests, repository_of, tags
from rorqual.daemon.services.images.stores import Lease
from rorqual.distribution.credentials import Credentials
from rorqual.distribution.progress import Event, render
from rorqual.distribution.pull import Puller
from rorqual.errdefs import Conflict, Error, InvalidArgument
from rorqual.oci import platform as platforms
from rorqual.oci import reference as references
from rorqual.oci.image import ContainerConfig
from rorqual.oci.reference import Reference

FILTER_KEYS = frozenset({"dangling", "label", "label!", "before", "since", "reference", "until"})
Line = Callable[[Mapping[str, object]], Awaitable[None]]


class Usage(Protocol):
    """Which containers use an image."""

    def using(self, image_id: str) -> list[tuple[str, bool]]:
        """(id, running) of each container made from it."""


class Images:
    """Images, over the library and distribution."""

    def __init__(
        self, library: Library, puller: Puller, lease: Lease, usage: Usage, events: Events, driver: str
    ) -> None:
        self.library = library
        self._puller = puller
        self._lease = lease
        self._usage = usage
        self._events = events
        self._driver = driver

    # ---- pull ----

    async def pull(self, reference: Reference, platform: str, credentials: Credentials, line: Line) -> None:
        """Pull, a JSON object a line. Raises: what a pull raises, before or after lines were sent."""
        wanted = platforms.parse(platform) if platform else None
        queue: asyncio.Queue[Event | None] = asyncio.Queue()

        async def send() -> None:
            while (event := await queue.get()) is not None:
                await line(render(event))

        sender = asyncio.create_task(send(), name="pull progress")
        try:
            async with self._lease.held():
                result = await self._puller.pull(
                    reference, platform=wanted, credentials=credentials, progress=queue.put_nowait
                )
            queue.put_nowait(None)
            await sender
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        name = reference.with_default_tag().familiar
        self._event("pull", name, repository_of(result.name).removeprefix("docker.io/library/"), result.image.config)

    def _event(self, action: str, id: str, name: str, config: ContainerConfig) -> None:
        self._events.publish("image", action, id, {**config.labels, "name": name})

    # ---- tag and remove ----

    async def tag(self, source: str, repository: str, tag: str) -> None:
        """One more name. Raises: NotFound, InvalidArgument."""
        if not repository:
            raise InvalidArgument("invalid reference format")
        reference = references.parse(f"{repository}:{tag}" if tag else repository)
        if reference.digest is not None:
            raise InvalidArgument("refusing to create a tag with a digest reference")
        image = await self.library.find(source)
        name = reference.with_default_tag()
        await self.library.put(str(name), image, clock.now_ns())
        self._event("tag", image.id, name.familiar, image.image.config)

    async def remove(self, text: str, *, force: bool, prune: bool = True) -> list[DeleteItem]:
        """Untag, and delete the image with its last name. Raises: NotFound, Conflict with Docker's texts."""
        image = await self.library.find(text)
        names = self.library.names_of(image.id)
        by_id = self._is_id(text, image)
        if not by_id:
            reference = references.parse(text)
            name = str(reference) if reference.digest else str(reference.with_default_tag())
            doomed = [n for n in names if n == name] or [n for n in names if repository_of(n) == reference.name]
        else:
            doomed = names
            repositories = {repository_of(n) for n in names if not n.startswith(DANGLING)}
            if len(repositories) > 1 and not force:
                raise Conflict(
                    f"conflict: unable to delete {_short(image.id)} (must be forced) - image is referenced in multiple "
                    "repositories"
                )
        last = set(doomed) == set(names)
        if last or by_id:
            self._check_unused(image, text if not by_id else _short(image.id), force=force, by_id=by_id)
        items: list[DeleteItem] = []
        running = [id for id, on in self._usage.using(image.id)]
        if last and running:
            await self.library.keep(image)  # a container's image stays, nameless, until the container is gone
        await self.library.remove(doomed)
        for name in doomed:
            if not name.startswith(DANGLING):
                items.append(DeleteItem(untagged=references.parse(name).familiar))
                self._event("untag", image.id, image.id, image.image.config)
        if last and not running:
            items.append(DeleteItem(deleted=image.id))
            items += [DeleteItem(deleted=chain) for chain in reversed(image.image.chain_ids)] if prune else []
            self._event("delete", image.id, image.id, image.image.config)
        return items

    def _is_id(self, text: str, image: LocalImage) -> bool:
        bare = text.removeprefix("sha256:")
        if not image.id.removeprefix("sha256:").startswith(bare):
            return False
        return text.startswith("sha256:") or str(references.parse_any(text)) not in self.library.names()

    def _check_unused(self, image: LocalImage, text: str, *, force: bool, by_id: bool) -> None:
        using = self._usage.using(image.id)
        running = [id for id, on in using if on]
        if running:
            how = "cannot be forced"
            if by_id or not force:
                raise Conflict(
                    f"conflict: unable to delete {text} ({how}) - image is being used by running container "
                    f"{running[0][:12]}"
                )
        if using and not force:
            if by_id:
                raise Conflict(
                    f"conflict: unable to delete {text} (must be forced) - image is being used by stopped container "
                    f"{using[0][0][:12]}"
                )
            raise Conflict(
                f'conflict: unable to remove repository reference "{text}" (must force) - container '
                f"{using[0][0][:12]} is using its referenced image {_short(image.id)}"
            )

    async def prune(self, filters: Filters) -> tuple[list[DeleteItem], int]:
        """Remove what no container uses: nameless images, or all with dangling=false. Items and bytes."""
        dangling_only = filters.flag("dangling", True)
        until = filters.get("until")
        before = clock.parse_when(until[0]) if until else None
        items: list[DeleteItem] = []
        freed = 0
        for image in list(self.library.by_id().values()):
            names = self.library.names_of(image.id)
            dangling = all(n.startswith(DANGLING) for n in names)
            if (dangling_only and not dangling) or self._usage.using(image.id):
                continue
            if before is not None and _created_ns(image) > before:
                continue
            if not filters.labels("label", image.image.config.labels):
                continue
            try:
                items += await self.remove(image.id, force=True)
            except Error:
                continue  # taken into use meanwhile
            freed += image.size
        self._events.publish("image", "prune", "", {"reclaimed": str(freed)})
        return items, freed

    # ---- views ----

    async def summaries(self, filters: Filters) -> list[ImageSummary]:
        """Every image, the newest first. Raises: NotFound (before, since), InvalidArgument."""
        bounds: dict[str, int] = {}
        for key in ("before", "since"):
            for value in filters.get(key):
                bounds[key] = _created_ns(await self.library.find(value))
        wanted_dangling = filters.flag("dangling", False) if "dangling" in filters else None
        patterns = filters.get("reference")
        found: list[ImageSummary] = []
        for image in self.library.by_id().values():
            names = self.library.names_of(image.id)
            created = _created_ns(image)
            if "before" in bounds and created >= bounds["before"]:
                continue
            if "since" in bounds and created <= bounds["since"]:
                continue
            if not filters.labels("label", image.image.config.labels):
                continue
            if patterns:
                names = [n for n in names if any(_matches(p, n) for p in patterns)]
                if not names:
                    continue
            shown_tags = tags(names)
            dangling = not shown_tags
            if wanted_dangling is not None and dangling != wanted_dangling:
                continue
            found.append(
                ImageSummary(
                    id=image.id,
                    repo_tags=shown_tags,
                    repo_digests=digests(names, image),
                    created=created // 10**9,
                    size=image.size,
                    shared_size=-1,
                    labels=image.image.config.labels or None,
                    containers=-1,
                )
            )
        return sorted(found, key=lambda s: (-s.created, s.id))

    async def inspect(self, text: str) -> ImageInspect:
        """Raises: NotFound."""
        image = await self.library.find(text)
        names = self.library.names_of(image.id)
        config = image.image
        return ImageInspect(
            id=image.id,
            descriptor=OCIDescriptor(image.target.media_type, image.target.digest, image.target.size),
            repo_tags=tags(names),
            repo_digests=digests(names, image),
            comment=config.comment,
            created=config.created,
            author=config.author,
            config=_config(config.config),
            architecture=config.platform.architecture,
            variant=config.platform.variant,
            os=config.platform.os,
            os_version=config.platform.os_version,
            size=image.size,
            graph_driver=DriverData(self._driver, None),
            rootfs=ImageRootFS("layers", config.diff_ids),
            metadata=ImageMetadata(clock.rfc3339(image.tagged_ns)),
        )

    async def history(self, text: str) -> list[HistoryItem]:
        """Newest first. Raises: NotFound."""
        image = await self.library.find(text)
        layers = iter(image.manifest.layers)
        items: list[HistoryItem] = []
        for entry in image.image.history:
            layer = None if entry.empty_layer else next(layers, None)
            created = clock.parse_rfc3339(entry.created) // 10**9 if entry.created else 0
            items.append(
                HistoryItem("<missing>", created, entry.created_by, None, layer.size if layer else 0, entry.comment)
            )
        items.reverse()
        if items:
            first = items[0]
            own = tags(self.library.names_of(image.id)) or None
            items[0] = HistoryItem(image.id, first.created, first.created_by, own, first.size, first.comment)
        return items


def _short(id: str) -> str:
    return id.removeprefix("sha256:")[:12]


def _created_ns(image: LocalImage) -> int:
    try:
        return clock.parse_rfc3339(image.image.created) if image.image.created else 0
    except InvalidArgument:
        return 0


def _matches(pattern: str, name: str) -> bool:
    from fnmatch import fnmatchcase

    if name.startswith(DANGLING):
        return False
    reference = references.parse(name)
    return any(
        fnmatchcase(text, pattern)
        for text in (reference.familiar, reference.familiar_name, str(reference), reference.name)
    )


def _config(config: ContainerConfig) -> ImageConfig:
    health = config.healthcheck
    return ImageConfig(
        user=config.user,
        exposed_ports={port: {} for port in config.exposed_ports} or None,
        env=config.env or None,
        entrypoint=config.entrypoint,
        cmd=config.cmd,
        volumes={path: {} for path in config.volumes} or None,
        working_dir=config.working_dir,
        labels=config.labels or None,
        stop_signal=config.stop_signal,
        healthcheck=HealthConfig(
            health.test,
            health.interval_ns,
            health.timeout_ns,
            health.start_period_ns,
            health.start_interval_ns,
            health.retries,
        )
        if health
        else None,
        on_build=config.on_build,
        args_escaped=config.args_escaped,
        shell=config.shell,
    )
