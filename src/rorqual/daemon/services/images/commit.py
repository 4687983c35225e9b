"""POST /commit: a container's changes become a layer on its image's.

Source: Engine API ImageCommit; moby daemon/commit.go.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from rorqual.api import codec
from rorqual.api.config import ContainerConfig
from rorqual.daemon.remote import Snapshots
from rorqual.daemon.services import clock
from rorqual.daemon.services.containers.record import Container
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.images import changes, initlayer, layering
from rorqual.daemon.services.images.library import Library, LocalImage
from rorqual.daemon.services.images.making import MadeLayer, Maker
from rorqual.daemon.services.images.stores import Lease
from rorqual.daemon.services.pieces import behind
from rorqual.daemon.spec import merge
from rorqual.distribution.pack import Options, Packed, Packer, Stream, Write
from rorqual.distribution.pack.compare import pack_changes
from rorqual.errdefs import Conflict, Error
from rorqual.oci.image import ContainerConfig as ImageConfig
from rorqual.oci.image import Healthcheck
from rorqual.oci.reference import Reference
from rorqual.version import __version__

# The end of an archive and nothing else: no change, no layer. Fewer bytes than the smallest member needs with it.
_EMPTY_TAR_BYTES = 1024
_EMPTY_DIFF_ID = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


@dataclass(frozen=True, slots=True)
class CommitOptions:
    """`name` None: an image without a name. `config` replaces the container's where it says something."""

    name: Reference | None
    author: str = ""
    comment: str = ""
    changes: tuple[str, ...] = ()
    pause: bool = True
    config: ContainerConfig | None = None


class Pausing(Protocol):
    """Freezes containers: services.containers.lifecycle."""

    async def pause(self, container: Container, *, briefly: bool = False) -> None:
        """`briefly`: not beyond the end of this process. Raises: Conflict."""

    async def unpause(self, container: Container) -> None:
        """Raises: Conflict."""


class Committer:
    """Makes images of containers."""

    def __init__(
        self, library: Library, maker: Maker, snapshots: Snapshots, lease: Lease, pausing: Pausing, events: Events
    ) -> None:
        self._library = library
        self._maker = maker
        self._snapshots = snapshots
        self._lease = lease
        self._pausing = pausing
        self._events = events

    async def commit(self, container: Container, options: CommitOptions) -> str:
        """The new image's ID. Raises: Conflict, InvalidArgument, NotFound (the container's image is gone)."""
        config = self._config(container, options)
        base = await self._library.find(container.image_id)
        async with self._lease.held():
            try:
                made = await self.layer(container, pause=options.pause)
            except (OSError, Error):
                container.check_kept()
                raise
            try:
                container.check_kept()
                document = _document(base, container, config, options, made)
                layers = list(base.manifest.layers)
                if made is not None:
                    await self._maker.place(made, base.image.chain_ids[-1] if base.image.chain_ids else None)
                    layers.append(made.descriptor)
            except BaseException:
                if made is not None:
                    await asyncio.shield(self._maker.drop(made))
                raise
            image = replace(await self._maker.image(document, layers), parent=base.id)
            await self._name(image, options.name)
        reference = options.name.familiar if options.name is not None else ""
        attributes = {"comment": options.comment, "imageID": image.id, "imageRef": reference}
        self._events.publish("container", "commit", container.id, {**container.event_attributes(), **attributes})
        return image.id

    async def _name(self, image: LocalImage, name: Reference | None) -> None:
        if name is None:
            await self._library.keep(image)
            return
        await self._library.put(str(name), image, clock.now_ns())
        self._events.publish("image", "tag", image.id, {**image.image.config.labels, "name": name.familiar})

    @staticmethod
    def _config(container: Container, options: CommitOptions) -> ContainerConfig:
        given = options.config if options.config is not None else container.config
        changed = changes.apply(given, options.changes)
        return merge.merge(changed, image_config(container.config))

    async def layer(self, container: Container, *, pause: bool) -> MadeLayer | None:
        """The container's changes, to be placed or dropped under the lease; None when there are none."""
        mounts = await self._snapshots.mounts(container.snapshot_key)
        async with AsyncExitStack() as stack:
            if pause and container.state.running and container.state.status != "paused":
                await stack.enter_async_context(self._paused(container))
            if (directories := layering.stacked(mounts)) is not None:
                pack = partial(_pack, *directories)
            else:
                compared = self._snapshots.beside_parent(container.snapshot_key, self._lease.id)
                trees = layering.whole(*await stack.enter_async_context(compared))
                if trees is None:
                    return await self._compared(container)
                pack = partial(_pack_compared, *trees)
            stream = await stack.enter_async_context(Stream(pack))
            pieces = aiter(stream)
            first = await anext(pieces)
            if len(first) == _EMPTY_TAR_BYTES:
                # Pieces are far larger, unless it is the only one.
                return None
            return await self._maker.layer(behind(first, pieces))

    async def _compared(self, container: Container) -> MadeLayer | None:
        """As `_layer`, for a snapshot whose files only its containerd can reach."""
        descriptor = await self._snapshots.layer(container.snapshot_key, self._lease.id)
        made = await self._maker.stored(descriptor)
        if made is None or made.diff_id == _EMPTY_DIFF_ID:
            if made is not None:
                await self._maker.drop(made)
            return None
        return made

    @asynccontextmanager
    async def _paused(self, container: Container) -> AsyncIterator[None]:
        try:
            await self._pausing.pause(container, briefly=True)
        except Conflict:
            yield  # it ended a moment ago
            return
        try:
            yield
        finally:
            try:
                await asyncio.shield(self._pausing.unpause(container))
            except Conflict:
                pass  # it was killed meanwhile


def _pack(upper: str, lowers: Sequence[str], write: Write) -> Packed:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    fds = [os.open(upper, flags)]
    try:
        fds += [os.open(lower, flags) for lower in lowers if lower]
        options = Options(whiteouts="overlay", skip=initlayer.skipper(fds[0], fds[1:]))
        packer = Packer(write, options)
        packer.tree(fds[0])
        return packer.finish()
    finally:
        for fd in fds:
            os.close(fd)


def _pack_compared(old: str | None, new: str, write: Write) -> Packed:
    with ExitStack() as stack:
        after = layering.opened(new, stack)
        before = layering.opened(old, stack) if old is not None else None
        return pack_changes(before, after, write, layering.rules(before, after))


def _document(
    base: LocalImage, container: Container, config: ContainerConfig, options: CommitOptions, made: MadeLayer | None
) -> bytes:
    """The image config, with the fields that Docker's own commits have."""
    created = clock.rfc3339(clock.now_ns())
    old = json.loads(base.image.raw)
    step: dict[str, Any] = {"created": created}
    if options.author:
        step["author"] = options.author
    step["created_by"] = " ".join(container.config.cmd or ())
    if options.comment:
        step["comment"] = options.comment
    if made is None:
        step["empty_layer"] = True
    diff_ids = [str(diff_id) for diff_id in base.image.diff_ids]
    if made is not None:
        diff_ids.append(str(made.diff_id))
    document: dict[str, Any] = {
        "architecture": base.image.platform.architecture,
        "comment": options.comment,
        "config": image_config(config).to_json(),
        "container": container.id,
        "container_config": codec.to_json(container.config),
        "created": created,
        "docker_version": __version__,
        "history": [*(old.get("history") or []), step],
        "os": base.image.platform.os,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    if options.author:
        document["author"] = options.author
    for key in ("variant", "os.version", "os.features"):
        if key in old:
            document[key] = old[key]
    return json.dumps(document, separators=(",", ":")).encode()


def image_config(config: ContainerConfig) -> ImageConfig:
    """What of a container's config an image has."""
    health = config.healthcheck
    return ImageConfig(
        user=config.user,
        env=config.env or (),
        cmd=config.cmd,
        entrypoint=config.entrypoint,
        working_dir=config.working_dir,
        exposed_ports=tuple(config.exposed_ports or ()),
        volumes=tuple(config.volumes or ()),
        labels=config.labels or {},
        stop_signal=config.stop_signal,
        stop_timeout_s=config.stop_timeout,
        healthcheck=None
        if health is None
        else Healthcheck(
            health.test or (),
            health.interval,
            health.timeout,
            health.start_period,
            health.start_interval,
            health.retries,
        ),
        shell=config.shell,
        on_build=config.on_build,
        args_escaped=config.args_escaped,
    )
