"""What distribution needs, over containerd: documents by gRPC, layers by the ingest socket, snapshots by chain ID."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from rorqual.daemon.remote import Remote
from rorqual.daemon.services.clock import now_ns, rfc3339
from rorqual.daemon.services.images.library import Library
from rorqual.distribution.stores import Layer
from rorqual.errdefs import AlreadyExists, Error, NotFound
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.digest import Digest
from rorqual.rpc.ingest import Request, Unpack, Writer, open_ingest

_PARENT_LABEL = "rorqual/parent"
_LEASE_HOURS = 24
_LEASE_PREFIX = "rorquald-"
# Refs of blobs whose digest is known at the end only: nobody can resume them.
MADE_PREFIX = "make-"
_DOCUMENT_MAX = 16 << 20


class Lease:
    """Keeps what is under way from garbage collection, while anything is.

    The layers that a pull had finished when it failed, or when the daemon was killed, are kept on for the next try:
    until a pull succeeds, images are pruned, or the lease expires.
    """

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._users = 0
        self._unfinished = False
        self._left: set[str] = set()
        self.id = ""
        # Set by who has put a layer into its place under the lease.
        self.has_layers = False

    async def sweep(self) -> None:
        """At start: find what a daemon that was killed kept; end what it had begun to write under a name of its own."""
        self._left |= {id for id in await self._remote.leases.all() if id.startswith(_LEASE_PREFIX)}
        for ref in await self._remote.content.unfinished():
            if ref.startswith(MADE_PREFIX):
                with contextlib.suppress(Error):  # its worker is still at it: collected later
                    await self._remote.content.abort(ref)

    async def drop_left(self) -> None:
        """Give up what pulls that did not succeed had finished."""
        while self._left:
            id = self._left.pop()
            with contextlib.suppress(Error):  # it expires by itself
                await self._remote.leases.delete(id)

    async def collect(self) -> None:
        """When it returns what nothing refers to is gone: the end of a lease can be waited for with its collection."""
        id = f"{_LEASE_PREFIX}{os.getpid()}-{time.monotonic_ns()}-collect"
        with contextlib.suppress(Error):  # a full disk takes no lease; what was deleted is collected somewhat later
            await self._remote.leases.create(id, _expiry())
            await self._remote.leases.delete(id, sync=True)

    @contextlib.asynccontextmanager
    async def held(self, *, resumable: bool = False) -> AsyncIterator[str]:
        """The lease's id, for the block; what a `resumable` block that fails had finished is kept for the next."""
        if not self._users:
            self.id = f"{_LEASE_PREFIX}{os.getpid()}-{time.monotonic_ns()}"
            self._users += 1
            try:
                await self._remote.leases.create(self.id, _expiry())
            except BaseException:
                self._users -= 1
                raise
        else:
            self._users += 1
        try:
            yield self.id
            if resumable:
                await self.drop_left()
        except BaseException:
            self._unfinished |= resumable
            raise
        finally:
            self._users -= 1
            if not self._users:
                ended, self.id = self.id, ""
                keep, self._unfinished, self.has_layers = self._unfinished and self.has_layers, False, False
                if keep:
                    self._left.add(ended)
                else:
                    with contextlib.suppress(Error):  # it expires by itself
                        await self._remote.leases.delete(ended)


def _expiry() -> str:
    return rfc3339(now_ns() + _LEASE_HOURS * 3600 * 10**9)


class Documents:
    """distribution.stores.ContentStore."""

    def __init__(self, remote: Remote, lease: Lease) -> None:
        self._remote = remote
        self._content = remote.content
        self._lease = lease

    async def get(self, digest: Digest) -> bytes | None:
        """See ContentStore."""
        try:
            return await self._content.read(digest, _DOCUMENT_MAX)
        except NotFound:
            return None

    async def put(self, descriptor: Descriptor, data: bytes, labels: Mapping[str, str]) -> None:
        """See ContentStore."""
        if self._lease.id:
            # Held first: one that is here already could be collected before its labels are set.
            await self._remote.leases.hold(self._lease.id, "content", descriptor.digest)
        ref = f"document-{descriptor.digest}"
        await self._content.write(ref, data, descriptor.digest, labels, self._lease.id)


class IngestWriter:
    """distribution.stores.LayerWriter."""

    def __init__(self, writer: Writer, size: int) -> None:
        self._writer = writer
        self._size = size

    @property
    def offset(self) -> int:
        """See LayerWriter."""
        return self._size if self._writer.existing is not None else self._writer.offset

    @property
    def complete(self) -> bool:
        """See LayerWriter."""
        return self._writer.existing is not None or self._writer.offset == self._size

    async def write(self, data: bytes) -> None:
        """See LayerWriter."""
        await self._writer.write(data)

    async def commit(self) -> Digest:
        """See LayerWriter."""
        result = await self._writer.commit()
        return Digest(result.diff_id or "")

    async def abort(self) -> None:
        """See LayerWriter."""
        self._writer.abort()


class Layers:
    """distribution.stores.LayerSink."""

    def __init__(self, remote: Remote, ingest: Path, lease: Lease) -> None:
        self._remote = remote
        self._ingest = str(ingest)
        self._lease = lease
        self._serial = itertools.count(1)
        self._keys: dict[Digest, str] = {}

    async def has(self, layer: Layer) -> bool:
        """See LayerSink. What is here counts with its blob only, which pushes and saves need, and is held from then."""
        if not await self._remote.snapshots.exists(layer.chain_id):
            return False
        # Held first, looked at afterwards: between the two a collection could have taken it.
        await self._remote.leases.hold(
            self._lease.id, f"snapshots/{self._remote.snapshots.snapshotter}", layer.chain_id
        )
        await self._remote.leases.hold(self._lease.id, "content", layer.descriptor.digest)
        if not await self._remote.snapshots.exists(layer.chain_id):
            return False
        return await self._remote.content.size(layer.descriptor.digest) is not None

    async def open(self, layer: Layer) -> IngestWriter:
        """See LayerSink."""
        await self.discard(layer)
        key = f"unpack-{os.getpid()}-{next(self._serial)}-{layer.chain_id}"
        self._keys[layer.chain_id] = key
        descriptor = layer.descriptor
        request = Request(
            ns=self._remote.namespace,
            ref=f"layer-{descriptor.digest}",
            digest=descriptor.digest,
            size=descriptor.size,
            media_type=descriptor.media_type,
            lease=self._lease.id,
            unpack=Unpack(self._remote.snapshots.snapshotter, key),
        )
        return IngestWriter(await open_ingest(self._ingest, request), descriptor.size)

    async def commit(self, layer: Layer) -> None:
        """See LayerSink."""
        key = self._keys[layer.chain_id]
        # The lease knows it by its key; from the commit on it has another name, which nothing else refers to yet.
        await self.hold(layer.chain_id)
        labels = {_PARENT_LABEL: str(layer.parent)} if layer.parent else {}
        try:
            await self._remote.snapshots.commit(layer.chain_id, key, labels)
        except AlreadyExists:
            await self._remote.snapshots.remove(key)
        self._lease.has_layers = True
        self._keys.pop(layer.chain_id, None)

    async def hold(self, chain_id: Digest) -> None:
        """Keep a snapshot, which need not be there yet, as long as the lease lasts."""
        if self._lease.id:
            kind = f"snapshots/{self._remote.snapshots.snapshotter}"
            await self._remote.leases.hold(self._lease.id, kind, chain_id)

    async def adopt(self, layer: Layer, key: str) -> None:
        """Commit a layer that was unpacked into the active snapshot `key`."""
        self._keys[layer.chain_id] = key
        await self.commit(layer)

    async def discard(self, layer: Layer) -> None:
        """See LayerSink."""
        key = self._keys.pop(layer.chain_id, None)
        if key is not None:
            with contextlib.suppress(Error):
                await self._remote.snapshots.remove(key)


class Names:
    """distribution.stores.ImageStore, over the library."""

    def __init__(self, library: Library) -> None:
        self._library = library

    async def get(self, name: str) -> Digest | None:
        """See ImageStore."""
        found = self._library.names().get(name)
        return found.target.digest if found else None

    async def stands_for(self, name: str, manifest: Digest) -> bool:
        """See ImageStore."""
        found = self._library.names().get(name)
        return found is not None and any(one.manifest.digest == manifest for one in found.variants)

    async def put(self, name: str, target: Descriptor) -> None:
        """See ImageStore."""
        await self._library.put(name, await self._library.read(target), now_ns())
