"""One build under way: what its stages share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rorqual.api.config import ContainerConfig
from rorqual.builder.dockerfile import words
from rorqual.builder.dockerfile.parser import Instruction
from rorqual.builder.dockerfile.stages import Recipe, Stage
from rorqual.daemon.remote import Snapshots
from rorqual.daemon.services.build.caches import Caches
from rorqual.daemon.services.build.context import Context
from rorqual.daemon.services.build.fetching import Fetcher
from rorqual.daemon.services.build.images import State, StepImages
from rorqual.daemon.services.build.options import BuildOptions
from rorqual.daemon.services.build.running import Runner
from rorqual.daemon.services.build.telling import Step, Teller
from rorqual.daemon.services.containers import rootfs
from rorqual.daemon.services.images.commit import Committer
from rorqual.daemon.services.images.holds import Holds
from rorqual.daemon.services.images.library import Library, LocalImage
from rorqual.daemon.services.images.making import Maker
from rorqual.daemon.services.images.stores import Lease
from rorqual.daemon.services.images.transfers import Transfers
from rorqual.errdefs import InvalidArgument, NotFound
from rorqual.oci import platform as platforms
from rorqual.oci import reference as references
from rorqual.oci.platform import Platform


@dataclass(frozen=True, slots=True)
class Parts:
    """What of the engine a build works with. `scratch` and `run` (in memory): directories of the daemon's own."""

    library: Library
    transfers: Transfers
    maker: Maker
    committer: Committer
    snapshots: Snapshots
    runner: Runner
    lease: Lease
    holds: Holds
    fetcher: Fetcher
    caches: Caches
    scratch: str
    run: Path


@dataclass(slots=True)
class Arguments:
    """ARGs that were declared, with their values; None for one that has none."""

    values: dict[str, str | None] = field(default_factory=dict)

    def known(self) -> dict[str, str]:
        """Those that have a value."""
        return {name: value for name, value in self.values.items() if value is not None}


class Session:
    """A build's parts, request and progress."""

    def __init__(
        self,
        parts: Parts,
        context: Context,
        options: BuildOptions,
        teller: Teller,
        recipe: Recipe,
        hold: Callable[[str], None],
    ) -> None:
        """`hold` keeps an image from being removed while the build goes on."""
        self.parts = parts
        self._hold = hold
        self.context = context
        self.options = options
        self.teller = teller
        self.recipe = recipe
        self.images = StepImages(parts.library, parts.maker, hold)
        self.host = platforms.host()
        self.done: dict[int, State] = {}
        self.consumed: set[str] = set()
        self.steps = 0
        self._step = 0
        self._borrowing: list[LocalImage] = []

    # ---- telling ----

    async def begin(
        self, text: str, stage: Stage | None = None, instruction: Instruction | None = None, base: str = ""
    ) -> None:
        """A step begins; `base` is the image of its stage's FROM."""
        self._step += 1
        stages = len(self.recipe.stages)
        await self.teller.step(Step(self._step, self.steps, text, stages, stage, instruction, base))

    # ---- arguments ----

    def automatic(self) -> dict[str, str]:
        """The platforms' arguments. Source: Dockerfile reference, "Automatic platform ARGs"."""
        found: dict[str, str] = {}
        for prefix, platform in (("BUILD", self.host), ("TARGET", self.options.platform or self.host)):
            found[f"{prefix}PLATFORM"] = str(platform)
            found[f"{prefix}OS"], found[f"{prefix}ARCH"] = platform.os, platform.architecture
            found[f"{prefix}VARIANT"] = platform.variant
        return found

    def declare(
        self, instruction: Instruction, arguments: Arguments, variables: Mapping[str, str], inherited: Mapping[str, str]
    ) -> None:
        """An ARG: its value is the build's own, else its default, else what it was before the first FROM."""
        escape = self.recipe.escape
        for word in words.split(instruction.text, escape):
            written, equals, default = word.partition("=")
            name = words.expand(written, variables, escape)
            if not name:
                raise InvalidArgument("ARG names can not be blank")
            self.consumed.add(name)
            value: str | None = words.expand(default, {**variables, **arguments.known()}, escape)
            if name in self.options.arguments:
                value = self.options.arguments[name]
            elif not equals:
                value = inherited.get(name, self.automatic().get(name))
            arguments.values[name] = value

    # ---- images ----

    async def borrow(self) -> None:
        """Find the images of --cache-from; as Docker, what is not here cannot be reused."""
        for name in self.options.cache_from:
            try:
                self._borrowing.append(self._held(await self.parts.library.find(name)))
            except NotFound:
                continue

    async def cached(self, state: State, config: ContainerConfig, made_by: str) -> State | None:
        """The step's image, when it was made before or came with one to borrow from."""
        if not self.options.cache:
            return None
        found = self.images.known(state, config, made_by)
        of_sources = found is not None and any(self.images.stands_on(source, found.id) for source in self._borrowing)
        if self.options.cache_from and not of_sources:
            # As Docker: nothing but the named images is reused then, though it be here.
            found = await self.images.borrowed(state, config, made_by, self._borrowing)
        if found is not None:
            await self.teller.cached()
        return found

    async def image(self, name: str, platform: Platform | None) -> LocalImage:
        """An image that is here, or is pulled now. Raises: NotFound, what a pull raises."""
        library = self.parts.library
        if not self.options.pull:
            try:
                return self._held(await library.find(name, platform))
            except NotFound:
                pass
        reference = references.parse(name).with_default_tag()
        credentials = await self.options.credentials(reference.domain)
        await self.parts.transfers.pull(reference, str(platform) if platform else "", credentials, self.teller.pulling)
        return self._held(await library.find(name, platform))

    def _held(self, image: LocalImage) -> LocalImage:
        self._hold(image.id)
        return image

    async def source(self, name: str, stage: Stage) -> LocalImage | None:
        """What COPY --from names: an earlier stage's image (None: it is empty), or any image."""
        if name in self.options.contexts:
            return await self.image(self.options.contexts[name].image, self.options.platform)
        other = self.recipe.find(name, stage.index)
        if other is not None:
            return self.done[other.index].image
        if name.isdigit():
            raise InvalidArgument(f"invalid from flag value {name}: invalid stage index {name}")
        return await self.image(name, self.options.platform)

    def root(self, image: LocalImage | None) -> AbstractAsyncContextManager[int | None]:
        """See image_root."""
        return image_root(self.parts, image)


@asynccontextmanager
async def image_root(parts: Parts, image: LocalImage | None) -> AsyncIterator[int | None]:
    """An O_PATH fd of an image's root, for the block; None where there is no file yet."""
    if image is None or not image.top:
        yield None
        return
    async with parts.snapshots.view(image.top, parts.lease.id) as layers:
        plan = rootfs.Plan(image.id, parts.scratch, layers=layers, root_only=True, read_only=True)
        opened = await rootfs.in_own_thread(partial(rootfs.open_rootfs, plan))
        try:
            yield opened.fd
        finally:
            opened.close()
