"""The snapshotter over any driver: the tree in the database, the files by the driver, in that order of truth.

Ids are never used twice while a directory could be left of them, so that a removal needs no lock: the row goes first,
the directory <root>/<id> in a thread afterwards. What a crash leaves is a directory without a row; cleanup finds it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from rorqual.containerd.identifiers import check_labels
from rorqual.containerd.metadata.records import Kind, Labels, Snapshot, Usage
from rorqual.containerd.metadata.snapshots import SnapshotTable
from rorqual.containerd.snapshotters.contract import PARENT_LABEL, Driver, Mount
from rorqual.errdefs import AlreadyExists, Conflict, InvalidArgument

log = logging.getLogger(__name__)

_FIRST_IDS = 9000  # short: a mount of many layers names all of them


class TreeSnapshotter:
    """Implements contract.Snapshotter. The driver's root is there. `ids` yields new ids, shared by all snapshotters."""

    def __init__(self, driver: Driver, table: SnapshotTable, ids: Iterator[int]) -> None:
        self.name = driver.name
        self.driver = driver
        self.table = table
        self._ids = ids
        self._making: set[int] = set()  # ids of prepares under way: directories that have no row yet
        self._remover = ThreadPoolExecutor(1, thread_name_prefix=f"remove-{driver.name}")

    async def prepare(
        self, ns: str, key: str, parent: str, labels: Labels, *, pinned: bool = True, transient: bool = False
    ) -> list[Mount]:
        """See Snapshotter."""
        return await self._new(ns, key, parent, labels, Kind.ACTIVE, pinned, transient)

    async def view(self, ns: str, key: str, parent: str, labels: Labels, *, pinned: bool = True) -> list[Mount]:
        """See Snapshotter."""
        return await self._new(ns, key, parent, labels, Kind.VIEW, pinned, False)

    async def mounts(self, ns: str, key: str) -> list[Mount]:
        """See Snapshotter."""
        snapshot = self.table.get(ns, key)
        if snapshot.kind is Kind.COMMITTED:
            raise Conflict(f"snapshot {key} is committed: failed precondition")
        chain = self.table.chain(snapshot.id)[1:]
        return await asyncio.to_thread(self.driver.mounts, snapshot.id, chain, snapshot.kind, snapshot.labels)

    async def ensure(self, source: str) -> None:
        """Bring a mount back that was handed out earlier and is gone (a reboot); `source` may be anybody's."""
        if source.startswith(f"{self.driver.root}/"):
            await asyncio.to_thread(self.driver.ensure, source)

    async def commit(self, ns: str, name: str, key: str, labels: Labels, parent: str = "") -> None:
        """See Snapshotter."""
        snapshot = self.table.get(ns, key)
        parent = parent or labels.get(PARENT_LABEL, "")
        kept = check_labels({k: v for k, v in labels.items() if k != PARENT_LABEL})
        if snapshot.kind is Kind.ACTIVE:
            if self.table.exists(ns, name):
                raise AlreadyExists(f"snapshot {name}: already exists")
            usage = self.table.usage(snapshot.id)
            if not usage.inodes:
                usage = await asyncio.to_thread(measure, self.driver.layer(snapshot.id))
        else:
            usage = Usage(0, 0)  # refused below
        parent_id = self._parent_at_commit(ns, self.table.get(ns, key), parent)
        pending = self.table.pending(snapshot.id)
        if parent_id is not None and snapshot.parent_id is None:
            chain = self.table.chain(parent_id)
            await asyncio.to_thread(self.driver.stack, snapshot.id, chain, pending)
            self.table.committed(ns, parent)  # it may have been removed meanwhile
        elif pending.links:
            raise InvalidArgument(f"hard link to {pending.links[0][1]!r}, which is not in the layer")
        if self.table.get(ns, key).kind is Kind.ACTIVE:
            await asyncio.to_thread(self.driver.seal, snapshot.id)
        self.table.commit(ns, name, key, parent_id, kept, usage)

    def _parent_at_commit(self, ns: str, snapshot: Snapshot, parent: str) -> int | None:
        if not parent or parent == snapshot.parent:
            return snapshot.parent_id
        if snapshot.parent_id is not None:
            raise Conflict(f"snapshot {snapshot.name} has parent {snapshot.parent}, not {parent}: failed precondition")
        return self.table.committed(ns, parent).id

    async def remove(self, ns: str, key: str) -> None:
        """See Snapshotter."""
        self.remove_files([self.table.remove(ns, key).id])

    def remove_files(self, ids: list[int]) -> None:
        """Remove the directories of snapshots whose rows are gone, in the background."""
        for snapshot_id in ids:
            self._remover.submit(_remove, self.driver, snapshot_id)

    def stat(self, ns: str, key: str) -> Snapshot:
        """See Snapshotter."""
        return self.table.get(ns, key)

    async def usage(self, ns: str, key: str) -> Usage:
        """See Snapshotter."""
        snapshot = self.table.get(ns, key)
        if snapshot.kind is Kind.COMMITTED:
            return self.table.usage(snapshot.id)
        if snapshot.kind is Kind.VIEW:
            return Usage(0, 0)
        directory = self.driver.layer(snapshot.id)
        await asyncio.to_thread(self.driver.ensure, directory)
        return await asyncio.to_thread(measure, directory)

    def walk(self, ns: str) -> list[Snapshot]:
        """See Snapshotter."""
        return self.table.all(ns)

    def update(self, ns: str, key: str, labels: Labels, paths: list[str]) -> Snapshot:
        """See Snapshotter."""
        return self.table.update(ns, key, check_labels(dict(labels)), paths)

    def known_ids(self) -> set[int]:
        """Of all namespaces, and of those that are being made."""
        return self.table.ids() | self._making

    async def cleanup(self) -> None:
        """See Snapshotter."""
        known = self.known_ids()
        last = next(self._ids)  # a directory with a higher number belongs to a prepare that runs now
        names = await asyncio.to_thread(os.listdir, self.driver.root)
        self.remove_files([int(n) for n in names if n.isdigit() and int(n) < last and int(n) not in known])
        await asyncio.to_thread(self.finish_removals)

    def finish_removals(self) -> None:
        """Wait for those that were begun."""
        self._remover.submit(lambda: None).result()

    def close(self) -> None:
        """Finish the removal under way; cleanup finds the rest at the next start."""
        self._remover.shutdown(wait=True, cancel_futures=True)
        self.driver.close()

    async def _new(
        self, ns: str, key: str, parent: str, labels: Labels, kind: Kind, pinned: bool, transient: bool
    ) -> list[Mount]:
        if not key:
            raise InvalidArgument("snapshot key must not be empty")
        check_labels(dict(labels))
        if self.table.exists(ns, key):
            raise AlreadyExists(f"snapshot {key}: already exists")
        parent_id = self.table.committed(ns, parent).id if parent else None
        chain = self.table.chain(parent_id) if parent_id is not None else []
        snapshot_id = next(self._ids)

        def create() -> list[Mount]:
            self.driver.create(snapshot_id, chain, kind, labels)
            return self.driver.mounts(snapshot_id, chain, kind, labels)

        self._making.add(snapshot_id)
        created = asyncio.get_running_loop().run_in_executor(None, create)
        try:
            mounts = await asyncio.shield(created)
            if parent:
                self.table.committed(ns, parent)  # it may have been removed meanwhile
            self.table.add(snapshot_id, ns, key, parent_id, kind, labels, pinned=pinned, transient=transient)
        except BaseException:
            created.add_done_callback(lambda _f: self.remove_files([snapshot_id]))
            raise
        finally:
            self._making.discard(snapshot_id)
        return mounts


def first_ids(last_in_database: int, roots: list[str]) -> Iterator[int]:
    """New snapshot ids, beyond every row and every directory left behind; the first one is anywhere.

    ext4 chooses a directory's block group by its name, and engines of the same numbers would all have the same ones.
    """
    last = last_in_database or random.randrange(_FIRST_IDS)
    for root in roots:
        if os.path.isdir(root):
            last = max([last, *(int(name) for name in os.listdir(root) if name.isdigit())])
    return itertools.count(last + 1)


def measure(path: str) -> Usage:
    """Bytes allocated and inodes below a directory, itself included; a hard link counts once.

    By descriptor: a running container can nest and move what is in it as it likes.
    """
    from rorqual.distribution.pack.levels import Levels  # with the packer: for who uses it

    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        top = os.open(path, flags)
    except FileNotFoundError:
        return Usage(0, 0)
    status = os.fstat(top)
    size, inodes = status.st_blocks * 512, 1
    seen: set[int] = set()
    with Levels(top, status, b"") as levels:
        while (level := levels.current()) is not None:
            if not level.names:
                try:
                    levels.leave()
                except (Conflict, OSError):
                    break  # moved away meanwhile: what was found so far
                continue
            name = level.names.pop()
            try:
                status = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
                inner = os.open(name, flags, dir_fd=level.fd) if stat.S_ISDIR(status.st_mode) else -1
            except OSError:
                continue  # a running container removed it meanwhile
            if inner < 0 and status.st_nlink > 1:
                if status.st_ino in seen:
                    continue
                seen.add(status.st_ino)
            size += status.st_blocks * 512
            inodes += 1
            if inner >= 0:
                levels.enter(inner, os.fstat(inner), b"")
    return Usage(size, inodes)


def _remove(driver: Driver, snapshot_id: int) -> None:
    try:
        driver.remove(snapshot_id)
    except FileNotFoundError:
        return
    except OSError as e:
        log.warning("%s snapshot %d: %s (tried again at the next start)", driver.name, snapshot_id, e)
