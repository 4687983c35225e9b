"""The layers of images, fetched: several at once, each once however many pulls want it.

What is shared is keyed by chain ID and does everything for that layer: download, unpack, and, when the one below is
there, commit. So there is one owner to clean up, whoever of the waiting pulls is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from rorqual.distribution.progress import LayerEvent, LayerState, Progress
from rorqual.distribution.repository import Repository
from rorqual.distribution.stores import Layer, LayerSink, LayerWriter
from rorqual.errdefs import DataLoss, Error
from rorqual.oci import digest as digests
from rorqual.oci.digest import Digest

# As Docker: a line a layer ten times a second is as much as a terminal shows.
_PROGRESS_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class _Job:
    """Whose pull it is: where to fetch from, and the stack that a layer belongs to."""

    repository: Repository
    layers: Sequence[Layer]


class _Transfer:
    """One layer on its way and who waits for it."""

    __slots__ = ("closing", "last", "listeners", "task")

    def __init__(self) -> None:
        self.listeners: list[Progress] = []
        self.last: LayerEvent | None = None
        self.closing = False
        self.task: asyncio.Task[None] | None = None

    def emit(self, event: LayerEvent) -> None:
        self.last = event
        for listener in tuple(self.listeners):
            listener(event)


class LayerFetcher:
    """Fetches into `sink`, `max_downloads` blobs at once over all pulls."""

    def __init__(self, sink: LayerSink, max_downloads: int) -> None:
        self._sink = sink
        self._slots = asyncio.Semaphore(max_downloads)
        self._transfers: dict[Digest, _Transfer] = {}
        # A lock a blob, with the number of its users.
        self._blobs: dict[Digest, tuple[asyncio.Lock, int]] = {}

    async def fetch(self, repository: Repository, layers: Sequence[Layer], progress: Progress) -> bool:
        """Returns when every layer is committed; False when all were there before.

        Raises: the first layer's failure; the others are stopped.
        """
        missing = await self._missing_from(layers)
        for number, layer in enumerate(layers):
            state = LayerState.EXISTS if number < missing else LayerState.PULLING
            progress(LayerEvent(digests.short(layer.descriptor.digest), state))
        if missing == len(layers):
            return False
        job = _Job(repository, layers)
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(missing, len(layers)):
                    group.create_task(self._join(job, number, progress))
        except BaseExceptionGroup as failures:
            failure = first_failure(failures)
        if failure is not None:
            raise failure
        return True

    async def _missing_from(self, layers: Sequence[Layer]) -> int:
        """The lowest layer that is not there. All are looked at: a chain may be there without one of its blobs."""
        here = await asyncio.gather(*(self._sink.has(layer) for layer in layers))
        return here.index(False) if False in here else len(layers)

    async def _join(self, job: _Job, number: int, progress: Progress, *, again: bool = True) -> None:
        """Waits for the layer's transfer, started here if nobody else has."""
        key = job.layers[number].chain_id
        while (transfer := self._transfers.get(key)) is not None and transfer.closing:
            # Its last listener left a moment ago; what it still does must be over before a new one begins.
            await asyncio.wait([_task_of(transfer)])
        if transfer is None:
            await self._listen(self._start(job, number, key, progress), progress)
            return
        if transfer.last is not None:
            progress(transfer.last)
        transfer.listeners.append(progress)
        try:
            await self._listen(transfer, progress)
        except Error:
            if not again:
                raise
            # Another pull's registry or credentials failed; ours may not.
            await self._join(job, number, progress, again=False)

    def _start(self, job: _Job, number: int, key: Digest, progress: Progress) -> _Transfer:
        transfer = _Transfer()
        transfer.listeners.append(progress)
        self._transfers[key] = transfer
        transfer.task = asyncio.create_task(self._run(job, number, transfer), name=f"layer {key}")
        transfer.task.add_done_callback(lambda task: self._ended(key, task))
        return transfer

    def _ended(self, key: Digest, task: asyncio.Task[None]) -> None:
        """A transfer is over; who listened has its outcome, and nobody else will ask for it."""
        del self._transfers[key]
        if not task.cancelled():
            task.exception()

    async def _listen(self, transfer: _Transfer, progress: Progress) -> None:
        """Waits for `transfer`; the last listener to leave takes it down."""
        task = _task_of(transfer)
        try:
            await asyncio.shield(task)
        finally:
            transfer.listeners.remove(progress)
            if not transfer.listeners and not task.done():
                transfer.closing = True
                task.cancel()
                await asyncio.wait([task])

    async def _run(self, job: _Job, number: int, transfer: _Transfer) -> None:
        """One layer from the registry to its committed snapshot."""
        layer = job.layers[number]
        id = digests.short(layer.descriptor.digest)
        if await self._sink.has(layer):
            transfer.emit(LayerEvent(id, LayerState.EXISTS))
            return
        try:
            diff_id = await self._download(job.repository, layer, transfer)
            if diff_id != layer.diff_id:
                raise DataLoss("layers from manifest don't match image configuration")
            size = layer.descriptor.size
            transfer.emit(LayerEvent(id, LayerState.EXTRACTING, size, size))
            if number:
                await self._join(job, number - 1, _silent)
            await self._sink.commit(layer)
        except BaseException:
            await asyncio.shield(self._sink.discard(layer))
            raise
        transfer.emit(LayerEvent(id, LayerState.COMPLETE))

    async def _download(self, repository: Repository, layer: Layer, transfer: _Transfer) -> Digest:
        """The diff ID of the layer, downloaded and unpacked."""
        digest = layer.descriptor.digest
        async with self._alone(digest):
            if self._slots.locked():
                transfer.emit(LayerEvent(digests.short(digest), LayerState.WAITING))
            async with self._slots:
                return await self._attempts(repository, layer, transfer)

    @contextlib.asynccontextmanager
    async def _alone(self, digest: Digest) -> AsyncIterator[None]:
        """One blob may be wanted at several places (the empty layer): one after the other, so it is fetched once."""
        lock, users = self._blobs.get(digest) or (asyncio.Lock(), 0)
        self._blobs[digest] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._blobs.pop(digest)
            if users > 1:
                self._blobs[digest] = (lock, users - 1)

    async def _attempts(self, repository: Repository, layer: Layer, transfer: _Transfer) -> Digest:
        """A resumed download that turns out wrong is made once more from the start: the old bytes may be to blame."""
        for resumable in (True, False):
            writer = await self._sink.open(layer)
            resumed = writer.offset > 0 and not writer.complete
            try:
                return await self._transfer(repository, layer, writer, transfer)
            except DataLoss as error:
                if resumed and resumable:
                    continue
                raise DataLoss(
                    f"filesystem layer verification failed for digest {layer.descriptor.digest}: {error}"
                ) from error
        raise AssertionError("unreachable")

    async def _transfer(self, repository: Repository, layer: Layer, writer: LayerWriter, transfer: _Transfer) -> Digest:
        id, total = digests.short(layer.descriptor.digest), layer.descriptor.size
        try:
            if not writer.complete:
                await self._copy(repository, layer, writer, transfer)
            transfer.emit(LayerEvent(id, LayerState.VERIFYING))
            transfer.emit(LayerEvent(id, LayerState.DOWNLOADED))
            transfer.emit(LayerEvent(id, LayerState.EXTRACTING, min(1, total), total))
            return await writer.commit()
        except BaseException:
            await asyncio.shield(writer.abort())
            raise

    async def _copy(self, repository: Repository, layer: Layer, writer: LayerWriter, transfer: _Transfer) -> None:
        id, total = digests.short(layer.descriptor.digest), layer.descriptor.size
        current = writer.offset
        shown = 0.0

        def on_retry(delay_s: float) -> None:
            transfer.emit(LayerEvent(id, LayerState.RETRYING, max(1, round(delay_s)), 0))

        stream = repository.stream(layer.descriptor, current, on_retry=on_retry)
        async with contextlib.aclosing(stream):
            async for piece in stream:
                await writer.write(piece)
                current += len(piece)
                now = time.monotonic()
                if now - shown >= _PROGRESS_EVERY_S or current == total:
                    shown = now
                    transfer.emit(LayerEvent(id, LayerState.DOWNLOADING, current, total))


def _silent(_: object) -> None:
    """The layer above waits for this one: its own listeners are told by their own pull."""


def _task_of(transfer: _Transfer) -> asyncio.Task[None]:
    assert transfer.task is not None, "a transfer is started before it is shared"
    return transfer.task


def first_failure(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure to tell: one of ours before anything unexpected."""
    leaves: list[BaseException] = []
    stack: list[BaseException] = [failures]
    while stack:
        failure = stack.pop(0)
        if isinstance(failure, BaseExceptionGroup):
            stack.extend(failure.exceptions)
        else:
            leaves.append(failure)
    return next((leaf for leaf in leaves if isinstance(leaf, Error)), leaves[0])
