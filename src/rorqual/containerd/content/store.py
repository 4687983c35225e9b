"""The content store as the services use it: rows and files together, names and locks of writes under way."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rorqual.containerd.content.blobs import Blobs, Hash, hash_file, new_hash
from rorqual.containerd.identifiers import check_digest, check_labels
from rorqual.containerd.metadata.content import ContentTable, Ingest
from rorqual.containerd.metadata.database import Database
from rorqual.containerd.metadata.records import ContentInfo, Labels
from rorqual.errdefs import AlreadyExists, Conflict, DataLoss, InvalidArgument, NotFound, Unavailable

_READ_SIZE = 1 << 20


class ContentStore:
    """Blobs of all namespaces."""

    def __init__(self, db: Database, table: ContentTable, blobs: Blobs) -> None:
        self._db = db
        self.table = table
        self.blobs = blobs
        self._busy: set[tuple[str, str]] = set()

    async def reconcile(self) -> None:
        """At start: remove files without rows."""
        await asyncio.to_thread(self.blobs.reconcile, self.table.digests(), self.table.ingest_ids())

    def adopt(self, ns: str, digest: str, labels: Labels) -> ContentInfo | None:
        """The blob, when this namespace has it or another has: then this one has it too, from now on."""
        found = self.table.find(ns, digest)
        if found is None and (size := self.table.size_elsewhere(digest)) is not None:
            found = self.table.add(ns, digest, size, labels)
        return found

    @contextmanager
    def locked(self, ns: str, ref: str) -> Iterator[None]:
        """Own a ref. Raises Unavailable while another writer does."""
        if (ns, ref) in self._busy:
            raise Unavailable(f"ref {ref} locked: unavailable")
        self._busy.add((ns, ref))
        try:
            yield
        finally:
            self._busy.discard((ns, ref))

    def busy_ids(self) -> set[int]:
        """The ingests that have a writer now."""
        return {ingest.id for ns, ref in self._busy if (ingest := self.table.ingest(ns, ref))}

    async def read(self, ns: str, digest: str, offset: int, size: int) -> AsyncIterator[bytes]:
        """The blob's bytes from `offset`, `size` of them (0: to the end), in pieces of at most 1 MiB.

        Raises NotFound, InvalidArgument for an offset outside the blob.
        """
        info = self.table.get(ns, check_digest(digest))
        if offset < 0 or offset > info.size:
            raise InvalidArgument(f"read past object length {info.size} bytes")
        end = info.size if size <= 0 else min(info.size, offset + size)
        try:
            fd = await asyncio.to_thread(os.open, self.blobs.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as e:
            raise NotFound(f"content {digest}: not found") from e
        try:
            while offset < end:
                data = await asyncio.to_thread(os.pread, fd, min(_READ_SIZE, end - offset), offset)
                if not data:
                    raise DataLoss(f"content {digest}: {end - offset} bytes are missing on disk")
                offset += len(data)
                yield data
        finally:
            os.close(fd)

    def delete(self, ns: str, digest: str) -> None:
        """Forget the blob in this namespace; the file goes when no other knows it. Raises NotFound."""
        self.table.remove(ns, check_digest(digest))
        self.remove_unreferenced([digest])

    def remove_unreferenced(self, digests: Iterable[str]) -> None:
        """Remove the files of blobs that no namespace knows any more; returns when the names are free."""
        aside = [self.blobs.set_aside(d) for d in set(digests) if self.table.size_elsewhere(d) is None]
        if aside:
            asyncio.get_running_loop().run_in_executor(None, self.blobs.unlink, aside)

    def remove_ingest_files(self, ids: Iterable[int]) -> None:
        """Remove the bytes of writes whose rows are gone."""
        paths = [self.blobs.ingest_path(i) for i in ids]
        if paths:
            asyncio.get_running_loop().run_in_executor(None, self.blobs.unlink, paths)

    async def abort(self, ns: str, ref: str) -> None:
        """Drop a write under way. Raises NotFound, Conflict while it has a writer."""
        if (ns, ref) in self._busy:
            raise Conflict(f"ref {ref} locked: a writer is open")
        ingest = self.table.end(ns, ref)
        await asyncio.to_thread(self.blobs.drop_ingest, ingest.id)

    async def finish(self, ns: str, ref: str, ingest: Ingest, digest: str, size: int, labels: Labels) -> ContentInfo:
        """Make a checked ingest a blob. Raises AlreadyExists (and drops the bytes)."""
        check_labels(dict(labels))
        await asyncio.to_thread(self.blobs.seal, ingest.id)
        # from here to the commit without an await: neither a removal nor another writer can come between
        on_disk = self.table.size_elsewhere(digest) is not None
        if not on_disk:
            self.blobs.publish(ingest.id, digest)
        with self._db.write():
            self.table.end(ns, ref)
            known = self.table.find(ns, digest)
            info = known or self.table.add(ns, digest, size, labels)
        if on_disk:
            self.remove_ingest_files([ingest.id])
        await asyncio.gather(asyncio.to_thread(self.blobs.sync_names, digest), self._db.durable())
        if known:
            raise AlreadyExists(f"content {digest}: already exists")
        return info


@dataclass(slots=True)
class Position:
    """Where a writer is."""

    offset: int
    total: int
    expected: str


class Writer:
    """One writer of a ref, held through ContentStore.locked. `position.offset` is where the next bytes go."""

    def __init__(self, store: ContentStore, ns: str, ref: str, ingest: Ingest) -> None:
        self._store = store
        self._ns = ns
        self._ref = ref
        self.ingest = ingest
        self.position = Position(0, ingest.total, ingest.expected)
        self._path = store.blobs.ingest_path(ingest.id)
        self._fd = -1
        self._hasher: Hash = new_hash(ingest.expected)

    async def open(self) -> None:
        """Open the file and hash what is there: a resumed write goes on behind it."""

        def open_and_hash() -> tuple[int, int]:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            size = os.fstat(fd).st_size
            hash_file(self._path, self._hasher, size)
            return fd, size

        self._fd, self.position.offset = await asyncio.to_thread(open_and_hash)

    def close(self) -> None:
        """Close the file; the bytes stay."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    async def truncate(self) -> None:
        """Begin again at 0."""
        await asyncio.to_thread(os.ftruncate, self._fd, 0)
        self._hasher = new_hash(self.position.expected)
        self.position.offset = 0

    async def write(self, data: bytes) -> None:
        """Append."""

        def put() -> None:
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
            self._hasher.update(data)

        await asyncio.to_thread(put)
        self.position.offset += len(data)

    def digest(self) -> str:
        """Of the bytes so far."""
        return f"{self.position.expected.partition(':')[0] or 'sha256'}:{self._hasher.hexdigest()}"

    async def commit(self, size: int, expected: str, labels: Labels) -> ContentInfo:
        """The blob. Raises Conflict for another size or digest than expected (the bytes stay), AlreadyExists."""
        if size and size != self.position.offset:
            raise Conflict(f"unexpected commit size {self.position.offset}, expected {size}: failed precondition")
        digest = self.digest()
        if expected and digest != expected:
            raise Conflict(f"unexpected commit digest {digest}, expected {expected}: failed precondition")
        self.close()
        return await self._store.finish(self._ns, self._ref, self.ingest, digest, self.position.offset, labels)
