"""A push: an image's blobs, several at once, then its manifests, the inner ones first.

    config and layers -> manifest for each platform -> index -> tag

The tag comes last: a registry never has a name for what it has not wholly. Source: distribution-spec "Push"; moby
daemon/internal/distribution/push_v2.go for the lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from rorqual.distribution import endpoints, errors
from rorqual.distribution.credentials import ANONYMOUS, Credentials
from rorqual.distribution.endpoints import Endpoint, RegistryOptions
from rorqual.distribution.errors import RegistryError, Transient
from rorqual.distribution.layers import first_failure
from rorqual.distribution.progress import Aux, LayerEvent, LayerState, Message, Progress
from rorqual.distribution.pushblob import BlobPusher, Outcome, Target
from rorqual.distribution.retry import RetryPolicy
from rorqual.distribution.stores import BlobSource
from rorqual.distribution.transport import Transport
from rorqual.errdefs import DataLoss, InvalidArgument, Unavailable
from rorqual.oci import digest as digests
from rorqual.oci import mediatypes
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.manifest import Index, Manifest
from rorqual.oci.reference import Reference

_PROGRESS_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Pushed:
    """One name to push. `shown`: for each layer's digest what to call it in the progress, its diff ID's digits.

    `index` with every manifest that it lists in `manifests`, or None and the one manifest.
    """

    reference: Reference
    manifests: tuple[Manifest, ...]
    index: Index | None = None
    shown: Mapping[str, str] = field(default_factory=dict)

    @property
    def top(self) -> Index | Manifest:
        """What the tag will point at."""
        return self.index or self.manifests[0]


class Pusher:
    """All pushes of one daemon; they share connections, tokens and the number of blobs sent at once."""

    def __init__(
        self,
        transport: Transport,
        options: RegistryOptions,
        *,
        blobs: BlobSource,
        max_uploads: int = 5,
        policy: RetryPolicy | None = None,
    ) -> None:
        self._transport = transport
        self._options = options
        self._blobs = blobs
        self._slots = asyncio.Semaphore(max_uploads)
        self._policy = policy or RetryPolicy()
        # A lock a blob and repository, with the number of its users: two pushes send it once.
        self._busy: dict[tuple[str, str], tuple[asyncio.Lock, int]] = {}

    async def push(
        self, pushed: Pushed, credentials: Credentials = ANONYMOUS, progress: Progress = print
    ) -> Descriptor:
        """The descriptor that the tag points at now.

        Raises: Unauthenticated, PermissionDenied, NotFound, InvalidArgument, Unavailable in Docker's words.
        """
        reference = pushed.reference
        if reference.tag is None:
            raise InvalidArgument("a push needs a tag")
        target = Target(_endpoint(reference, self._options), reference.path, credentials)
        try:
            await self._all_blobs(pushed, target, progress)
            return await self._all_manifests(pushed, target, progress)
        except RegistryError as error:
            raise errors.of_push(error) from error

    async def _all_blobs(self, pushed: Pushed, target: Target, progress: Progress) -> None:
        layers: dict[str, Descriptor] = {}
        others: dict[str, Descriptor] = {}
        for manifest in pushed.manifests:
            others[manifest.config.digest] = manifest.config
            for layer in manifest.layers:
                layers[layer.digest] = layer
        named = {d: pushed.shown.get(d) or digests.short(layers[d].digest) for d in layers}
        for name in reversed(list(named.values())):
            progress(LayerEvent(name, LayerState.PREPARING))
        pusher = BlobPusher(self._transport, target, self._policy, self._options.stall_s)
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for digest, layer in layers.items():
                    group.create_task(self._layer(pusher, target, layer, named[digest], progress))
                for config in others.values():
                    group.create_task(self._blob(pusher, target, config, "", progress))
        except BaseExceptionGroup as failures:
            failure = first_failure(failures)
        if failure is not None:
            raise failure

    async def _layer(
        self, pusher: BlobPusher, target: Target, layer: Descriptor, name: str, progress: Progress
    ) -> None:
        if mediatypes.is_foreign(layer.media_type) and layer.urls:
            # Its licence forbids to pass it on: the manifest says where it is.
            progress(LayerEvent(name, LayerState.SKIPPED))
            return
        if self._slots.locked():
            progress(LayerEvent(name, LayerState.WAITING))
        await self._blob(pusher, target, layer, name, progress)

    async def _blob(self, pusher: BlobPusher, target: Target, blob: Descriptor, name: str, progress: Progress) -> None:
        shown_at = 0.0

        def sent(current: int) -> None:
            nonlocal shown_at
            now = time.monotonic()
            if name and (now - shown_at >= _PROGRESS_EVERY_S or current == blob.size):
                shown_at = now
                progress(LayerEvent(name, LayerState.PUSHING, current, blob.size))

        def on_retry(delay_s: float) -> None:
            if name:
                progress(LayerEvent(name, LayerState.RETRYING, max(1, round(delay_s))))

        async with self._alone(target, blob), self._slots:
            host = target.endpoint.host
            mounts = [path for path in await self._blobs.origins(blob, host) if path != target.path]
            outcome, source = await pusher.push(
                blob, lambda offset: self._blobs.pieces(blob, offset), mounts, sent=sent, on_retry=on_retry
            )
            await self._blobs.note_origin(blob, host, target.path)
        if name:
            state = {
                Outcome.EXISTED: LayerState.EXISTS_THERE,
                Outcome.MOUNTED: LayerState.MOUNTED,
                Outcome.UPLOADED: LayerState.PUSHED,
            }[outcome]
            progress(LayerEvent(name, state, source=source))

    @contextlib.asynccontextmanager
    async def _alone(self, target: Target, blob: Descriptor) -> AsyncIterator[None]:
        key = (f"{target.endpoint.host}/{target.path}", blob.digest)
        lock, users = self._busy.get(key) or (asyncio.Lock(), 0)
        self._busy[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._busy.pop(key)
            if users > 1:
                self._busy[key] = (lock, users - 1)

    async def _all_manifests(self, pushed: Pushed, target: Target, progress: Progress) -> Descriptor:
        top = pushed.top
        if pushed.index is not None:
            for manifest in pushed.manifests:
                await self._manifest(target, manifest, manifest.digest)
        tag = pushed.reference.tag or ""
        await self._manifest(target, top, tag)
        size = len(top.raw)
        progress(Message(f"{tag}: digest: {top.digest} size: {size}"))
        progress(Aux({"Tag": tag, "Digest": top.digest, "Size": size}))
        return top.descriptor

    async def _manifest(self, target: Target, document: Index | Manifest, name: str) -> None:
        failures = 0
        while True:
            try:
                response = await self._transport.request(
                    target.endpoint,
                    "PUT",
                    f"/v2/{target.path}/manifests/{name}",
                    scope=target.scope,
                    credentials=target.credentials,
                    headers={"Content-Type": document.media_type},
                    accept=(201,),
                    body=document.raw,
                )
            except Transient as error:
                failures += 1
                delay_s = self._policy.delay_s(failures, error.retry_after_s)
                if delay_s is None:
                    raise Unavailable(str(error)) from error
                await asyncio.sleep(delay_s)
                continue
            told = response.headers.get("Docker-Content-Digest", "")
            response.release()
            if told and told != document.digest and told.startswith("sha256:"):
                raise DataLoss(f"the registry stored {told} instead of {document.digest}")
            return


def _endpoint(reference: Reference, options: RegistryOptions) -> Endpoint:
    """Never a mirror."""
    return endpoints.for_domain(reference.domain, options)[-1]


def complete(index: Index, here: Sequence[Manifest]) -> bool:
    """Whether `here` has every manifest of the index."""
    found = {manifest.digest for manifest in here}
    return all(entry.digest in found for entry in index.manifests)
