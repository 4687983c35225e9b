"""Pull and push, over rorqual.distribution: whole repositories, platforms, events.

Source: Engine API ImageCreate, ImagePush.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from rorqual.daemon.services.events import Events
from rorqual.daemon.services.images.blobfiles import BlobFiles
from rorqual.daemon.services.images.library import Library, LocalImage, not_provided, repository_of
from rorqual.daemon.services.images.making import Maker
from rorqual.daemon.services.images.manifests import Content, complete_manifests
from rorqual.daemon.services.images.stores import Lease
from rorqual.distribution.credentials import Credentials
from rorqual.distribution.progress import Aux, Event, Message, Progress, render
from rorqual.distribution.pull import Puller
from rorqual.distribution.push import Pushed, Pusher
from rorqual.errdefs import Conflict, NotFound
from rorqual.oci import digest as digests
from rorqual.oci import mediatypes
from rorqual.oci import platform as platforms
from rorqual.oci.image import ContainerConfig
from rorqual.oci.platform import Platform
from rorqual.oci.reference import Reference

Line = Callable[[Mapping[str, object]], Awaitable[None]]


class Transfers:
    """Between the library and registries."""

    def __init__(
        self,
        library: Library,
        content: Content,
        maker: Maker,
        blobs: BlobFiles,
        puller: Puller,
        pusher: Pusher,
        lease: Lease,
        events: Events,
    ) -> None:
        self._maker = maker
        self._blobs = blobs
        self._library = library
        self._content = content
        self._puller = puller
        self._pusher = pusher
        self._lease = lease
        self._events = events

    async def pull(self, reference: Reference, platform: str, credentials: Credentials, line: Line) -> None:
        """Pull, a JSON object a line; a name without tag means all tags. Raises: before or after lines were sent."""
        wanted = platforms.parse(platform) if platform else None
        async with self._lease.held(resumable=True), _sent(line) as progress:
            if not reference.is_name_only:
                await self._pull_one(reference, wanted, credentials, progress)
                return
            fetched = False
            for tag in await self._puller.tags(reference, credentials):
                quiet = _without_status(progress)
                fetched |= await self._pull_one(reference.with_tag(tag), wanted, credentials, quiet)
            said = "Downloaded newer image for" if fetched else "Image is up to date for"
            progress(Message(f"Status: {said} {reference.familiar_name}"))

    async def _pull_one(
        self, reference: Reference, wanted: Platform | None, credentials: Credentials, progress: Progress
    ) -> bool:
        result = await self._puller.pull(reference, platform=wanted, credentials=credentials, progress=progress)
        name = reference.with_default_tag().familiar
        self._event("pull", name, repository_of(result.name).removeprefix("docker.io/library/"), result.image.config)
        return result.updated

    def _event(self, action: str, id: str, name: str, config: ContainerConfig) -> None:
        self._events.publish("image", action, id, {**config.labels, "name": name})

    async def push(self, reference: Reference, wanted: Platform | None, credentials: Credentials, line: Line) -> None:
        """Push, a JSON object a line; a name without tag means all tags; with `wanted` that platform's manifest only.

        Raises: NotFound, Unauthenticated, PermissionDenied, InvalidArgument, Unavailable; before or after lines.
        """
        await line({"status": f"The push refers to repository [{reference.name_only().name}]"})
        own = {name: image for name, image in self._library.names().items() if repository_of(name) == reference.name}
        if not own:
            raise NotFound(f"An image does not exist locally with the tag: {reference.familiar_name}")
        if reference.tag is not None:
            names = [str(reference)]
            if names[0] not in own:
                raise NotFound(f"tag does not exist: {reference.familiar}")
        else:
            names = sorted(name for name in own if "@" not in name)
        async with self._lease.held():
            for name in names:
                tagged = reference.name_only().with_tag(name.rpartition(":")[2])
                # Looked up anew: another tag of the same image may have been pushed meanwhile.
                image = await self._compressed(self._library.names().get(name, own[name]))
                async with _sent(line) as progress:
                    await self._push_one(tagged, image, wanted, credentials, progress)

    async def _compressed(self, image: LocalImage) -> LocalImage:
        """The image as it goes to registries; from now on it is here in this form too, so digests agree."""
        made = await self._maker.compressed(image, self._blobs)
        if made is not image:
            for name in self._library.names_of(image.id):
                named = self._library.names().get(name)
                if named is not None and named.target.digest == image.target.digest:
                    await self._library.put(
                        name, replace(named, manifest=made.manifest, target=made.target), named.tagged_ns
                    )
        return made

    async def _push_one(
        self,
        reference: Reference,
        image: LocalImage,
        wanted: Platform | None,
        credentials: Credentials,
        progress: Progress,
    ) -> None:
        if wanted is not None:
            variant = image.exactly(wanted)
            if variant is None:
                raise NotFound(not_provided(reference.familiar, wanted))
            image = variant
        shown: dict[str, str] = {
            layer.digest: digests.short(diff_id)
            for layer, diff_id in zip(image.manifest.layers, image.image.diff_ids, strict=False)
        }
        pushed = Pushed(reference, (image.manifest,), shown=shown)
        if wanted is None and image.target.media_type in mediatypes.INDEXES:
            index, manifests = await complete_manifests(self._content, image.target)
            if index is not None:
                pushed = Pushed(reference, manifests, index, shown)
            elif image.others and not platforms.same(platforms.host(), image.platform or image.image.platform):
                raise Conflict("multiple matching manifests found but no specific platform requested")
        await self._pusher.push(pushed, credentials, progress)
        await self._blobs.note_origin(pushed.top.descriptor, reference.domain, reference.path)
        if pushed.top.digest != image.target.digest and wanted is None:
            # The stock client tells the user.
            progress(
                Aux(
                    {
                        "manifestPushedInsteadOfIndex": True,
                        "originalIndex": image.target.to_json(),
                        "selectedManifest": image.manifest.descriptor.to_json(),
                    }
                )
            )
        self._event("push", reference.familiar, reference.familiar_name, image.image.config)


def _without_status(progress: Progress) -> Progress:
    """Of each tag of a repository, all but the last line, which is told once for all."""

    def forward(event: Event) -> None:
        if not (isinstance(event, Message) and event.status.startswith("Status: ")):
            progress(event)

    return forward


@asynccontextmanager
async def _sent(line: Line) -> AsyncIterator[Progress]:
    """A Progress whose events are sent as lines; all of them, when the block ends well."""
    queue: asyncio.Queue[Event | None] = asyncio.Queue()

    async def send() -> None:
        while (event := await queue.get()) is not None:
            await line(render(event))

    sender = asyncio.create_task(send(), name="progress")
    try:
        try:
            yield queue.put_nowait
        finally:
            # What came before an error is told before it.
            queue.put_nowait(None)
        await sender
    except Exception:
        await asyncio.gather(sender, return_exceptions=True)
        raise
    finally:
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)
