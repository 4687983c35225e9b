"""Blobs and ingests as files. Every function here may wait for the disk: call it in a thread or a worker.

<root>/blobs/<algorithm>/<hex>     a whole, checked blob; never changes
<root>/ingest/<id>                 the bytes of a write under way; the row is in the database
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from rorqual.linux.sync import sync_directory

_COPY_SIZE = 1 << 20


class Hash(Protocol):
    """Of hashlib."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Feed."""

    def hexdigest(self) -> str:
        """The digest of what was fed."""


class Blobs:
    """The files below one root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._aside = itertools.count()
        for part in ("blobs/sha256", "blobs/sha512", "ingest"):
            (root / part).mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> str:
        """Where a blob of that (checked) digest is or would be."""
        algorithm, _, encoded = digest.partition(":")
        return f"{self._root}/blobs/{algorithm}/{encoded}"

    def ingest_path(self, ingest_id: int) -> str:
        """Where the bytes of a write are."""
        return f"{self._root}/ingest/{ingest_id}"

    def ingest_size(self, ingest_id: int) -> int:
        """How many bytes are there; 0 before the first."""
        try:
            return os.stat(self.ingest_path(ingest_id)).st_size
        except FileNotFoundError:
            return 0

    def seal(self, ingest_id: int) -> None:
        """Put a whole ingest's bytes on stable storage, read-only."""
        fd = os.open(self.ingest_path(ingest_id), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(fd, 0o444)
            os.fsync(fd)
        finally:
            os.close(fd)

    def publish(self, ingest_id: int, digest: str) -> None:
        """Give a sealed ingest its blob's name: one rename, fast enough for the event loop."""
        os.rename(self.ingest_path(ingest_id), self.path(digest))

    def sync_names(self, digest: str) -> None:
        """Make the names beside a blob survive power loss."""
        sync_directory(os.path.dirname(self.path(digest)))

    def set_aside(self, digest: str) -> str:
        """Take a blob's name away (one rename); the path that is then to be unlinked."""
        aside = f"{self._root}/ingest/removed-{digest.partition(':')[2]}-{next(self._aside)}"
        try:
            os.rename(self.path(digest), aside)
        except FileNotFoundError:
            pass
        return aside

    def drop_ingest(self, ingest_id: int) -> None:
        """Remove its bytes, if any."""
        try:
            os.unlink(self.ingest_path(ingest_id))
        except FileNotFoundError:
            pass

    def unlink(self, paths: Iterable[str]) -> None:
        """Remove files, those there."""
        for path in paths:
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass

    def reconcile(self, digests: set[str], ingest_ids: set[int]) -> None:
        """Remove the files that no row knows: leftovers of an interrupted removal or commit."""
        for algorithm in ("sha256", "sha512"):
            for name in os.listdir(self._root / "blobs" / algorithm):
                if f"{algorithm}:{name}" not in digests:
                    os.unlink(self._root / "blobs" / algorithm / name)
        for name in os.listdir(self._root / "ingest"):
            if not name.isdigit() or int(name) not in ingest_ids:
                os.unlink(self._root / "ingest" / name)


def new_hash(digest: str) -> Hash:
    """The hash for a digest's algorithm; sha256 for an empty one."""
    return hashlib.new(digest.partition(":")[0] or "sha256")


def hash_file(path: str, hasher: Hash, size: int) -> None:
    """Feed the first `size` bytes of a file to a hash."""
    with open(path, "rb", buffering=0) as file:
        while size > 0 and (data := file.read(min(size, _COPY_SIZE))):
            hasher.update(data)
            size -= len(data)
