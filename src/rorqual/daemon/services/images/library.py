"""The library: every image name of the store, and what it stands for, held in memory.

A create needs no round trip to find its image. The index follows what this daemon does; names made by others (`ctr`)
are found by asking the store when a lookup misses.

An image is a config (its ID is the config's digest). A name points at a manifest or an index; of an index, the entry
that is here and fits this machine counts, unless a platform is asked for. A name
`rorqual-dangling@<digest>` keeps an image whose last tag moved on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from rorqual.daemon.remote import ImageRecord
from rorqual.daemon.services.images import variants
from rorqual.daemon.services.images.variants import BlobReader, Variant
from rorqual.errdefs import Error, InvalidArgument, NotFound
from rorqual.oci import platform as platforms
from rorqual.oci import reference as references
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.image import Image
from rorqual.oci.manifest import Manifest
from rorqual.oci.platform import Platform

log = logging.getLogger(__name__)

DANGLING = "rorqual-dangling"
# Its tags would read as IDs.
_AMBIGUOUS = "docker.io/library/sha256"
# moby's own label for it, so that what others make here keeps its history.
PARENT_LABEL = "org.mobyproject.image.parent"
# That a build of this engine made it: nothing else is looked at as its cache (CVE-2024-24557).
BUILT_LABEL = "rorqual/built"


class NameStore(Protocol):
    """containerd's image store."""

    async def all(self) -> list[ImageRecord]:
        """Every name."""

    async def put(self, name: str, target: Descriptor, labels: Mapping[str, str]) -> None:
        """Create or change."""

    async def delete(self, name: str) -> None:
        """Remove."""


@dataclass(frozen=True, slots=True)
class LocalImage:
    """An image that is here. `target` is what its names point at; `tagged_ns` when that was last set.

    `parent`: the ID of the image that it was made from here, "" for one that came from elsewhere; `built`: a build of
    this engine made it. `others`: the other platforms of `target`, an index, that are here too; `platform` what the
    index says that this one is for.
    """

    image: Image
    manifest: Manifest
    target: Descriptor
    tagged_ns: int = 0
    parent: str = ""
    built: bool = False
    others: tuple[LocalImage, ...] = ()
    platform: Platform | None = None

    @property
    def variants(self) -> tuple[LocalImage, ...]:
        """Itself and the other platforms that its names stand for."""
        return (self, *self.others)

    @property
    def chains(self) -> frozenset[str]:
        """The snapshots of all of them."""
        return frozenset(chain for one in self.variants for chain in one.image.chain_ids)

    def variant(self, wanted: Platform) -> LocalImage | None:
        """What `wanted` runs best of the platforms that are here."""
        position = platforms.choose(wanted, [one.platform or one.image.platform for one in self.variants])
        return None if position is None else self._as_named(self.variants[position])

    def exactly(self, wanted: Platform) -> LocalImage | None:
        """The one that is for `wanted` itself."""
        for one in self.variants:
            if platforms.same(wanted, one.platform or one.image.platform):
                return self._as_named(one)
        return None

    def _as_named(self, variant: LocalImage) -> LocalImage:
        return variant if variant is self else replace(variant, tagged_ns=self.tagged_ns)

    @property
    def id(self) -> str:
        """The config's digest."""
        return self.image.digest

    @property
    def top(self) -> str:
        """The topmost snapshot's name, "" without layers."""
        chain = self.image.chain_ids
        return chain[-1] if chain else ""

    @property
    def size(self) -> int:
        """Bytes of its blobs, as they are stored."""
        return self.manifest.config.size + sum(layer.size for layer in self.manifest.layers)


class Library:
    """Names to images. Lookups are plain calls; changes go to the store first."""

    def __init__(self, names: NameStore, blobs: BlobReader) -> None:
        self._store = names
        self._blobs = blobs
        self._names: dict[str, LocalImage] = {}
        self._refreshed = asyncio.Lock()

    async def load(self) -> None:
        """Read the whole store: at start, and when a lookup misses."""
        async with self._refreshed:
            found: dict[str, LocalImage] = {}
            by_target = {i.target.digest: i for i in self._names.values()}
            for record in await self._store.all():
                known = by_target.get(record.target.digest)
                try:
                    image = known or await self.read(record.target, record.updated_ns)
                    parent = record.labels.get(PARENT_LABEL, "") or image.parent
                    image = replace(image, parent=parent, built=BUILT_LABEL in record.labels)
                except (Error, ValueError) as e:
                    log.warning("image %s can't be used here: %s", record.name, e)
                    continue
                by_target[record.target.digest] = image
                found[record.name] = image
            self._names = found

    async def read(self, target: Descriptor, tagged_ns: int = 0) -> LocalImage:
        """The image that `target` stands for on this machine. Raises: NotFound, InvalidArgument."""
        best, *others = await variants.read(self._blobs, target)

        def local(one: Variant) -> LocalImage:
            return LocalImage(one.image, one.manifest, target, tagged_ns, platform=one.platform)

        return replace(local(best), others=tuple(map(local, others)))

    # ---- lookups ----

    def names(self) -> Mapping[str, LocalImage]:
        """Every name."""
        return self._names

    def by_id(self) -> dict[str, LocalImage]:
        """Every image once."""
        return {image.id: image for image in self._names.values()}

    def all_by_id(self) -> dict[str, LocalImage]:
        """Every image once, those of other platforms too."""
        found = {one.id: one for image in self._names.values() for one in image.others}
        return found | self.by_id()

    def all_chains(self) -> set[str]:
        """The snapshots of every image."""
        return {chain for image in self.by_id().values() for chain in image.chains}

    def children_of(self, id: str) -> list[LocalImage]:
        """The images that were made from an image."""
        return [image for image in self.by_id().values() if image.parent == id]

    def names_of(self, id: str) -> list[str]:
        """The names that stand for an image, sorted."""
        return sorted(name for name, image in self._names.items() if image.id == id)

    async def find(self, text: str, platform: Platform | None = None) -> LocalImage:
        """By name, digest, ID or a unique prefix of it. Raises: NotFound with Docker's text, InvalidArgument."""
        found = self.lookup(text)
        if found is None:
            await self.load()
            found = self.lookup(text)
        if found is None:
            raise NotFound(f"No such image: {shown(text)}")
        if platform is None:
            return found
        fitting = found.variant(platform)
        if fitting is None:
            raise NotFound(
                f"image with reference {shown(text)} was found but does not match the specified platform: wanted "
                f"{platforms.normalize(platform)}, actual: {platforms.normalize(found.image.platform)}"
            )
        return fitting

    async def find_exactly(self, text: str, platform: Platform) -> LocalImage:
        """As find, but nothing that `platform` could merely run too. Raises: as find."""
        fitting = (await self.find(text)).exactly(platform)
        if fitting is None:
            raise NotFound(not_provided(text, platform))
        return fitting

    def lookup(self, text: str) -> LocalImage | None:
        """As find, of what is known already. Raises: InvalidArgument for what can't be a reference."""
        by_id = self._by_id(text)
        if by_id is not None:
            return by_id
        if len(text) == 64 and all(c in "0123456789abcdef" for c in text):
            return None
        reference = references.parse(text)
        if reference.digest is not None:
            return self._by_digest(reference.name, reference.digest)
        return self._names.get(str(reference.with_default_tag()))

    def _by_id(self, text: str) -> LocalImage | None:
        bare = text.removeprefix("sha256:")
        if not 4 <= len(bare) <= 64 or not all(c in "0123456789abcdef" for c in bare):
            return None
        # A name made of hex digits is a name first, as in Docker: an ID needs its prefix then.
        if bare == text and len(bare) < 64:
            named = self._names.get(str(references.parse(text).with_default_tag()))
            if named is not None:
                return named
        matches = {i.id: i for i in self._names.values() if i.id.removeprefix("sha256:").startswith(bare)}
        if not matches:
            matches = {id: i for id, i in self.all_by_id().items() if id.removeprefix("sha256:").startswith(bare)}
        if not matches and len(bare) == 64:
            matches = {i.id: i for i in self._names.values() if i.target.digest == f"sha256:{bare}"}
        if len(matches) > 1:
            raise InvalidArgument(f"ambiguous reference: {text}")
        return next(iter(matches.values()), None)

    def _by_digest(self, repository: str, digest: str) -> LocalImage | None:
        named = self._names.get(f"{repository}@{digest}")
        if named is not None:
            return named
        for name, image in self._names.items():
            if image.target.digest == digest and repository_of(name) == repository:
                return image
        return None

    # ---- changes ----

    async def put(self, name: str, image: LocalImage, tagged_ns: int) -> LocalImage | None:
        """Make `name` mean `image`; the image it meant before, if that was another.

        One whose last name this was stays, without a tag. Raises: InvalidArgument for sha256:tag.
        """
        if repository_of(name) == _AMBIGUOUS:
            raise InvalidArgument("refusing to create an ambiguous tag using digest algorithm as name")
        before = self._names.get(name)
        if before is not None and before.target.digest == image.target.digest:
            before = None  # perhaps of another platform, and still the same
        if before is not None and before.id != image.id and self.names_of(before.id) == [name]:
            await self._put(f"{DANGLING}@{before.target.digest}", before)
        await self._put(name, replace(image, tagged_ns=tagged_ns))
        self.refresh(image)
        dangling = f"{DANGLING}@{image.target.digest}"
        if dangling in self._names:
            await self.remove([dangling])
        return before if before is not None and before.id != image.id else None

    def refresh(self, image: LocalImage) -> None:
        """Other names of the same index stand for what is here of it now."""
        here = [one.id for one in image.variants]
        for name, known in self._names.items():
            if known.target.digest == image.target.digest and [one.id for one in known.variants] != here:
                self._names[name] = replace(image, tagged_ns=known.tagged_ns, parent=known.parent, built=known.built)

    async def _put(self, name: str, image: LocalImage) -> None:
        labels = {PARENT_LABEL: image.parent} if image.parent else {}
        await self._store.put(name, image.target, labels | ({BUILT_LABEL: "1"} if image.built else {}))
        self._names[name] = image

    async def keep(self, image: LocalImage) -> None:
        """Keep an image that has no name."""
        await self._put(f"{DANGLING}@{image.target.digest}", image)

    async def remove(self, names: Iterable[str]) -> None:
        """Remove names."""
        for name in names:
            await self._store.delete(name)
            self._names.pop(name, None)


def repository_of(name: str) -> str:
    """`docker.io/library/busybox` of `docker.io/library/busybox:latest` or `...@sha256:…`."""
    head = name.partition("@")[0]
    slash = head.rfind("/")
    colon = head.rfind(":")
    return head[:colon] if colon > slash else head


def tags(names: Iterable[str]) -> tuple[str, ...]:
    """The familiar tags among names: RepoTags."""
    return tuple(references.parse(n).familiar for n in names if "@" not in n)


def digests(names: Iterable[str], image: LocalImage) -> tuple[str, ...]:
    """RepoDigests: each repository with the digest of what its names point at."""
    found: dict[str, None] = {}
    for name in names:
        if not name.startswith(DANGLING):
            found[f"{references.parse(name).familiar_name}@{image.target.digest}"] = None
    return tuple(found)


def not_provided(text: str, platform: Platform) -> str:
    """Docker's words for an image without a platform that was asked for."""
    return f"image with reference {shown(text)} was found but does not provide the specified platform ({platform})"


def shown(text: str) -> str:
    """A reference as Docker's errors show it: familiar, with its tag."""
    try:
        reference = references.parse(text)
    except InvalidArgument:
        return text
    return reference.familiar if reference.digest else reference.with_default_tag().familiar
