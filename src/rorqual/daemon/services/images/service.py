"""Names given and taken: tag, remove, prune. Source: Engine API ImageTag, ImageDelete, ImagePrune; moby's
daemon/images/image_delete.go for what is in conflict with what, and the texts.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from rorqual.api.image import DeleteItem
from rorqual.daemon.services import clock
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.filters import Filters
from rorqual.daemon.services.images.holds import Holds
from rorqual.daemon.services.images.library import DANGLING, Library, LocalImage, repository_of
from rorqual.daemon.services.images.sizes import Sizes
from rorqual.daemon.services.images.variants import CONTENT_LABEL
from rorqual.errdefs import Conflict, InvalidArgument
from rorqual.oci import manifest as manifests
from rorqual.oci import reference as references
from rorqual.oci.image import ContainerConfig
from rorqual.oci.manifest import Index
from rorqual.oci.platform import Platform


class Usage(Protocol):
    """Which containers use an image."""

    def using(self, image_id: str) -> list[tuple[str, bool]]:
        """(id, running) of each container made from it."""


class IndexLabels(Protocol):
    """containerd's content store: what an index keeps alive."""

    async def read(self, digest: str, limit: int) -> bytes:
        """A blob. Raises: NotFound."""

    async def labels(self, digest: str) -> dict[str, str]:
        """Its labels. Raises: NotFound."""

    async def set_labels(self, digest: str, labels: Mapping[str, str]) -> None:
        """Change labels; "" removes one."""


class Leftovers(Protocol):
    """What no image holds: stores.Lease."""

    async def drop_left(self) -> None:
        """Give up what is kept of pulls that did not succeed."""

    async def collect(self) -> None:
        """Wait until it is gone."""


class Images:
    """Changes to the library."""

    def __init__(
        self,
        library: Library,
        content: IndexLabels,
        sizes: Sizes,
        usage: Usage,
        holds: Holds,
        lease: Leftovers,
        events: Events,
    ) -> None:
        self._library = library
        self._lease = lease
        self._content = content
        self._sizes = sizes
        self._usage = usage
        self._holds = holds
        self._events = events

    def _event(self, action: str, id: str, name: str, config: ContainerConfig) -> None:
        self._events.publish("image", action, id, {**config.labels, "name": name})

    async def tag(self, source: str, repository: str, tag: str) -> None:
        """One more name. Raises: NotFound, InvalidArgument."""
        if not repository:
            raise InvalidArgument("invalid reference format")
        reference = references.parse(f"{repository}:{tag}" if tag else repository)
        if reference.digest is not None:
            raise InvalidArgument("refusing to create a tag with a digest reference")
        image = await self._library.find(source)
        if self._is_part(image):
            # The platform alone, not the index that it was found by.
            image = replace(image, target=image.manifest.descriptor)
        name = reference.with_default_tag()
        await self._library.put(str(name), image, clock.now_ns())
        self._event("tag", image.id, name.familiar, image.image.config)

    # ---- remove ----

    async def remove(
        self, text: str, *, force: bool, prune: bool = True, platforms: Sequence[Platform] = ()
    ) -> list[DeleteItem]:
        """Untag, and delete the image with its last name; with `platforms` only what is here of the image for those.

        When it returns the room is free. Raises: NotFound, Conflict, InvalidArgument with Docker's texts.
        """
        if platforms:
            items = await self._remove_platforms(text, platforms, force=force)
        else:
            items = await self._remove(text, force=force, prune=prune)
        if any(item.deleted for item in items):
            await self._lease.collect()
        return items

    async def _remove(self, text: str, *, force: bool, prune: bool) -> list[DeleteItem]:
        image = await self._library.find(text)
        if self._is_part(image):
            raise Conflict(
                f"conflict: unable to delete {_short(image.id)} (cannot be forced) - it is one platform of "
                f"{image.target.digest}: remove that, or with --platform and --force this platform of it"
            )
        items: list[DeleteItem] = []
        names = self._tagged(image)
        if not self._is_id(text, image):
            if _single(names) and not force and (using := self._using(image)):
                raise Conflict(
                    f'conflict: unable to remove repository reference "{text}" (must force) - container '
                    f"{using[0][0][:12]} is using its referenced image {_short(image.id)}"
                )
            doomed = self._named(text, names)
            if set(doomed) == set(names):
                # The image itself may have to stay: then it stays as one without a name.
                if not await self._delete(image, items, force=force, prune=prune, quiet=True):
                    await self._library.keep(image)
                    await self._untag(image, doomed, items)
            else:
                await self._untag(image, doomed, items)
            return items
        if _single(names):
            self._check(image, force=force, names=[])
        await self._delete(image, items, force=force, prune=prune, quiet=False)
        return items

    async def _remove_platforms(self, text: str, platforms: Sequence[Platform], *, force: bool) -> list[DeleteItem]:
        if not force:
            # Docker's own text, with its dash.
            raise InvalidArgument(
                "Content will be removed from all images referencing this variant. Use \u2014-force to force delete."
            )
        items: list[DeleteItem] = []
        for platform in platforms:
            variant = await self._library.find_exactly(text, platform)
            image = await self._library.find(text)
            if image.others:
                await self._forget(variant, items)
            else:
                # Nothing would be left: the names go too.
                await self._delete(image, items, force=True, prune=False, quiet=False)
        return items

    async def _forget(self, variant: LocalImage, items: list[DeleteItem]) -> None:
        """The index keeps neither the variant nor what attests it: garbage collection takes them."""
        target = variant.target
        index = manifests.parse(
            await self._content.read(target.digest, manifests.MAX_MANIFEST_BYTES), target.media_type
        )
        doomed = {variant.manifest.digest}
        if isinstance(index, Index):
            doomed |= {entry.digest for entry in manifests.attestations_of(index, variant.manifest.digest)}
        labels = await self._content.labels(target.digest)
        gone = {name: "" for name, value in labels.items() if name.startswith(CONTENT_LABEL) and value in doomed}
        if not gone:
            raise Conflict(
                f"conflict: unable to delete {variant.manifest.digest}: its index was not stored by this engine"
            )
        before = self._library.all_chains()
        await self._content.set_labels(target.digest, gone)
        left = await self._library.read(target, variant.tagged_ns)
        self._library.refresh(left)
        items += [DeleteItem(deleted=digest) for digest in sorted(doomed & set(labels.values()))]
        self._sizes.forget(before - self._library.all_chains())
        self._event("delete", variant.manifest.digest, variant.manifest.digest, variant.image.config)

    def _is_part(self, image: LocalImage) -> bool:
        """Whether the image is known only as another platform of an index."""
        return image.id not in self._library.by_id()

    def _using(self, image: LocalImage) -> list[tuple[str, bool]]:
        """The containers of any of its platforms."""
        return [user for one in image.variants for user in self._usage.using(one.id)]

    def _tagged(self, image: LocalImage) -> list[str]:
        return [name for name in self._library.names_of(image.id) if not name.startswith(DANGLING)]

    @staticmethod
    def _named(text: str, names: list[str]) -> list[str]:
        """Which of an image's names `text` means."""
        reference = references.parse(text)
        if reference.digest is not None:
            return [n for n in names if n == str(reference)] or [n for n in names if repository_of(n) == reference.name]
        return [n for n in names if n == str(reference.with_default_tag())]

    def _is_id(self, text: str, image: LocalImage) -> bool:
        bare = text.removeprefix("sha256:")
        if not image.id.removeprefix("sha256:").startswith(bare):
            return False
        return text.startswith("sha256:") or str(references.parse_any(text)) not in self._library.names()

    async def _untag(self, image: LocalImage, names: list[str], items: list[DeleteItem]) -> None:
        await self._library.remove(names)
        for name in names:
            items.append(DeleteItem(untagged=references.parse(name).familiar))
            self._event("untag", image.id, image.id, image.image.config)

    async def _delete(
        self, image: LocalImage, items: list[DeleteItem], *, force: bool, prune: bool, quiet: bool
    ) -> bool:
        """The image with all its names, then the nameless images that only it was made of. False: it has to stay.

        Raises: Conflict, unless `quiet`.
        """
        names = self._tagged(image)
        try:
            self._check(image, force=force, names=[] if quiet else names)
        except Conflict:
            if quiet:
                return False
            raise
        await self._untag(image, names, items)
        await self._library.remove(self._library.names_of(image.id))
        items.append(DeleteItem(deleted=image.id))
        gone = self._unused_chains(image)
        items += [DeleteItem(deleted=chain) for chain in gone]
        self._sizes.forget(gone)
        self._event("delete", image.id, image.id, image.image.config)
        parent = self._library.by_id().get(image.parent)
        if prune and parent is not None and not self._tagged(parent):
            await self._delete(parent, items, force=False, prune=True, quiet=True)
        return True

    def _unused_chains(self, image: LocalImage) -> list[str]:
        """Its layers that no image has any more, the topmost first."""
        used = self._library.all_chains()
        own = [chain for one in image.variants for chain in reversed(one.image.chain_ids)]
        return [chain for chain in dict.fromkeys(own) if chain not in used]

    def _check(self, image: LocalImage, *, force: bool, names: list[str]) -> None:
        """Raises: Conflict for what forbids to delete the image, or does so without force."""
        short = _short(image.id)
        if self._library.children_of(image.id):
            raise Conflict(f"conflict: unable to delete {short} (cannot be forced) - image has dependent child images")
        if any(one.id in self._holds for one in image.variants):
            raise Conflict(f"conflict: unable to delete {short} (cannot be forced) - image is being used by a build")
        using = self._using(image)
        if running := [id for id, on in using if on]:
            raise Conflict(
                f"conflict: unable to delete {short} (cannot be forced) - image is being used by running container "
                f"{running[0][:12]}"
            )
        if force:
            return
        if not _single(names):
            raise Conflict(
                f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
            )
        if using:
            raise Conflict(
                f"conflict: unable to delete {short} (must be forced) - image is being used by stopped container "
                f"{using[0][0][:12]}"
            )

    # ---- prune ----

    async def prune(self, filters: Filters) -> tuple[list[DeleteItem], int]:
        """Remove what no container uses: nameless images, or all with dangling=false. Items and bytes."""
        dangling_only = filters.flag("dangling", True)
        until = filters.get("until")
        if len(until) > 1:
            raise InvalidArgument("more than one until filter specified")
        before = clock.parse_when(until[0]) if until else None
        await self._lease.drop_left()
        await self._sizes.learn(image.image for image in self._library.all_by_id().values())
        items: list[DeleteItem] = []
        freed = 0
        # Children before what they were made of.
        for image in sorted(self._library.by_id().values(), key=lambda i: -created_ns(i)):
            if image.id not in self._library.by_id() or self._library.children_of(image.id):
                continue
            if (dangling_only and self._tagged(image)) or self._using(image):
                continue
            if before is not None and created_ns(image) > before:
                continue
            if not filters.prunable(image.image.config.labels):
                continue
            sizes: dict[str, int] = {chain: self._sizes.layer(chain) for chain in image.chains}
            done: list[DeleteItem] = []
            try:
                await self._delete(image, done, force=True, prune=True, quiet=False)
            except Conflict:
                continue  # taken into use meanwhile
            items += done
            freed += sum(sizes.get(item.deleted, 0) for item in done)
        await self._lease.collect()
        self._events.publish("image", "prune", "", {"reclaimed": str(freed)})
        return items, freed


def _single(names: list[str]) -> bool:
    """Docker's "single reference": at most one tag, and all names in one repository."""
    return len({repository_of(n) for n in names}) <= 1 and sum("@" not in n for n in names) <= 1


def _short(id: str) -> str:
    return id.removeprefix("sha256:")[:12]


def created_ns(image: LocalImage) -> int:
    """When the image says that it was made; 0 when it doesn't."""
    return _parsed_ns(image.image.created)


@functools.lru_cache(4096)
def _parsed_ns(text: str) -> int:
    try:
        return clock.parse_rfc3339(text) if text else 0
    except InvalidArgument:
        return 0
