"""What list, inspect and history show. Source: Engine API ImageList, ImageInspect, ImageHistory."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

from rorqual.api import codec
from rorqual.api.config import ContainerConfig, HealthConfig
from rorqual.api.container import DriverData
from rorqual.api.image import (
    HistoryItem,
    ImageConfig,
    ImageInspect,
    ImageMetadata,
    ImageRootFS,
    ImageSummary,
)
from rorqual.daemon.services import clock
from rorqual.daemon.services.filters import Filters
from rorqual.daemon.services.images import patterns
from rorqual.daemon.services.images.library import DANGLING, Library, LocalImage, digests, tags
from rorqual.daemon.services.images.manifests import ManifestViews, described
from rorqual.daemon.services.images.service import Usage, created_ns
from rorqual.daemon.services.images.sizes import Sizes
from rorqual.errdefs import InvalidArgument
from rorqual.oci import image as oci_image
from rorqual.oci import reference as references
from rorqual.oci.platform import Platform

FILTER_KEYS = frozenset({"dangling", "label", "label!", "before", "since", "reference", "until"})


class Views:
    """Reads the library."""

    def __init__(self, library: Library, sizes: Sizes, usage: Usage, manifests: ManifestViews, driver: str) -> None:
        self._library = library
        self._sizes = sizes
        self._usage = usage
        self._manifests = manifests
        self._driver = driver
        # By image ID, with what it was made of: a list of many images is mostly the same as the last time.
        self._known: dict[str, tuple[tuple[object, ...], ImageSummary]] = {}

    async def summaries(
        self,
        filters: Filters,
        *,
        everything: bool = True,
        shared: bool = False,
        manifests: bool = False,
        identity: bool = False,
    ) -> list[ImageSummary]:
        """The newest first; without `everything`, nameless images that others were made of are left out.

        Raises: NotFound (before, since), InvalidArgument.
        """
        chosen = await self._select(filters, everything=everything)
        await self._sizes.learn(one.image for image, _ in chosen for one in image.variants)
        shares = self._shares() if shared else {}
        found: list[ImageSummary] = []
        for image, names in chosen:
            summary = self._summary(image, names)
            if shared:
                count = sum(len(self._usage.using(one.id)) for one in image.variants)
                summary = replace(summary, shared_size=shares.get(image.id, -1), containers=count)
            if manifests:
                summary = replace(summary, manifests=await self._manifests.of(image, identity=identity))
            found.append(summary)
        return found

    def _summary(self, image: LocalImage, names: list[str]) -> ImageSummary:
        """The same object as long as nothing of it has changed."""
        size = (
            sum(self._sizes.layer(chain) for chain in image.chains) if image.others else self._sizes.image(image.image)
        )
        made_of = (tuple(names), image.target.digest, image.parent, size)
        known = self._known.get(image.id)
        if known is not None and known[0] == made_of:
            return known[1]
        summary = ImageSummary(
            id=image.id,
            parent_id=image.parent,
            repo_tags=tags(names),
            repo_digests=digests(names, image),
            created=created_ns(image) // 10**9,
            size=size,
            shared_size=-1,
            labels=image.image.config.labels or None,
            containers=-1,
            descriptor=described(image.target),
        )
        if len(self._known) > 2 * len(self._library.names()) + 64:
            self._known.clear()
        self._known[image.id] = (made_of, summary)
        return summary

    async def _select(self, filters: Filters, *, everything: bool) -> list[tuple[LocalImage, list[str]]]:
        bounds = {
            key: [created_ns(await self._library.find(v)) for v in filters.get(key)] for key in ("before", "since")
        }
        until = [clock.parse_when(value) for value in filters.get("until")]
        wanted_dangling = filters.flag("dangling", False) if "dangling" in filters else None
        compiled = [patterns.compile(pattern) for pattern in filters.get("reference")]
        parents = {image.parent for image in self._library.names().values()}
        by_image: dict[str, tuple[LocalImage, list[str]]] = {}
        for name, image in sorted(self._library.names().items()):
            by_image.setdefault(image.id, (image, []))[1].append(name)
        found: list[tuple[LocalImage, list[str]]] = []
        for image, names in by_image.values():
            dangling = all(name.startswith(DANGLING) for name in names)
            if dangling and image.id in parents and (not everything or wanted_dangling):
                continue
            if wanted_dangling is not None and dangling != wanted_dangling:
                continue
            created = created_ns(image)
            if any(created >= bound for bound in (*bounds["before"], *until)):
                continue
            if any(created <= bound for bound in bounds["since"]):
                continue
            labels = image.image.config.labels
            if not filters.labels("label", labels) or ("label!" in filters and filters.labels("label!", labels)):
                continue
            if compiled:
                names = [n for n in names if any(_matches(pattern, n) for pattern in compiled)]
                if not names:
                    continue
            found.append((image, names))
        return sorted(found, key=lambda chosen: (-created_ns(chosen[0]), chosen[0].id))

    def _shares(self) -> dict[str, int]:
        """For each image, the bytes of its layers that another one has too."""
        images = self._library.by_id().values()
        users = Counter(chain for image in images for chain in image.chains)
        return {
            image.id: sum(self._sizes.layer(chain) for chain in image.chains if users[chain] > 1) for image in images
        }

    def layers_bytes(self) -> int:
        """Bytes of all layers that were learnt, each once."""
        return sum(self._sizes.layer(chain) for chain in self._library.all_chains())

    async def inspect(
        self, text: str, *, platform: Platform | None = None, manifests: bool = False, identity: bool = False
    ) -> ImageInspect:
        """With `platform`, that one of an index. Raises: NotFound, InvalidArgument."""
        named = await self._library.find(text)
        image = await self._library.find_exactly(text, platform) if platform is not None else named
        await self._sizes.learn([image.image])
        names = self._library.names_of(named.id)
        config = image.image
        document = json.loads(config.raw)
        made_from = document.get("container_config")
        return ImageInspect(
            id=image.id,
            descriptor=described(image.manifest.descriptor if platform is not None else image.target),
            repo_tags=tags(names),
            repo_digests=digests(names, image),
            parent=image.parent,
            comment=config.comment,
            created=config.created,
            container=document.get("container") or "",
            container_config=_container_config(made_from),
            docker_version=config.docker_version,
            author=config.author,
            config=_config(config.config),
            architecture=config.platform.architecture,
            variant=config.platform.variant,
            os=config.platform.os,
            os_version=config.platform.os_version,
            size=self._sizes.image(config),
            graph_driver=DriverData(self._driver, None),
            rootfs=ImageRootFS("layers", config.diff_ids),
            metadata=ImageMetadata(clock.rfc3339(image.tagged_ns)),
            manifests=await self._manifests.of(named) if manifests else None,
            identity=await self._manifests.identity(named) if identity else None,
        )

    async def history(self, text: str, platform: Platform | None = None) -> list[HistoryItem]:
        """Newest first; the IDs of images that it was made of here, `<missing>` for the others. Raises: NotFound."""
        image = await (self._library.find_exactly(text, platform) if platform else self._library.find(text))
        await self._sizes.learn([image.image])
        layers = iter(image.image.chain_ids)
        items: list[HistoryItem] = []
        for entry in image.image.history:
            chain = None if entry.empty_layer else next(layers, None)
            size = self._sizes.layer(chain) if chain else 0
            created = clock.parse_rfc3339(entry.created) // 10**9 if entry.created else 0
            items.append(HistoryItem("<missing>", created, entry.created_by, None, size, entry.comment))
        items.reverse()
        step: LocalImage | None = image
        for number, item in enumerate(items):
            if step is None:
                break
            own = tags(self._library.names_of(step.id)) or None
            items[number] = HistoryItem(step.id, item.created, item.created_by, own, item.size, item.comment)
            step = self._library.by_id().get(step.parent) if step.parent else None
        return items


def _container_config(made_from: Any) -> ContainerConfig | None:
    """What a commit noted of its container; None for what does not look like that."""
    if not isinstance(made_from, dict):
        return None
    try:
        return codec.from_json(ContainerConfig, made_from)
    except InvalidArgument:
        return None


def _matches(pattern: Any, name: str) -> bool:
    if name.startswith(DANGLING):
        return False
    reference = references.parse(name)
    return any(pattern.fullmatch(text) for text in (reference.familiar, reference.familiar_name))


def _config(config: oci_image.ContainerConfig) -> ImageConfig:
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
