"""devmapper (Docker's devicemapper): every snapshot a thin device with a file system of its own, sharing blocks.

    <root>/base.json            the base device, thin device 0: an empty file system that all others descend from
    <root>/<id>/device.json     which thin device it is and how long; written before the device is made
    <root>/<id>/fs              where it is mounted while it is active: all of the snapshot's files
    <root>/<id>/new             the same, being put together when a layer gets its parent

A snapshot's thin devices have the numbers 2*id and 2*id+1, so that what was cut short anywhere needs no journal: the
directory is on disk before a device is made and goes after it, and both are of a number that nobody else has. That the
pool is this root's is told by its transaction number, which is 1 from the base device on.

Committed snapshots are neither mounted nor active: at commit all is written and the device given up. After a reboot
the next use mounts again (`ensure`).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from rorqual.containerd.metadata.records import Kind, Labels, Pending
from rorqual.containerd.snapshotters.contract import Mount, quota_of
from rorqual.containerd.snapshotters.dmoptions import DmOptions
from rorqual.containerd.snapshotters.inherit import inherit_directories
from rorqual.containerd.snapshotters.poolsetup import Pool, name_prefix, open_pool
from rorqual.containerd.snapshotters.poolstatus import driver_status
from rorqual.containerd.snapshotters.thinfs import ThinFileSystem
from rorqual.containerd.snapshotters.thinpool import ID_MAX, ThinPool
from rorqual.errdefs import InvalidArgument, ResourceExhausted, Unavailable
from rorqual.linux import dm, mount, removal
from rorqual.linux.sync import sync_directory, syncfs, write_durably

_BASE_NUMBER = 0
_ATTEMPTS = 20  # a twentieth of a second apart
_OWNED = 1  # the pool's transaction number, once the base device is in it


@dataclass(frozen=True, slots=True)
class _Record:
    """device.json: the snapshot's thin device and its length."""

    number: int
    sectors: int


class DevmapperDriver:
    """Implements contract.Driver."""

    name = "devmapper"

    def __init__(self, root: str, options: DmOptions) -> None:
        """Opens the pool and makes the base device when there is none. Raises InvalidArgument, Unavailable, OSError."""
        self.root = root
        self._options = options
        self._prefix = name_prefix(root)
        self._lock = threading.Lock()  # of devices' names, mounts and `_deferred`
        self._deferred: set[int] = set()  # snapshots whose devices were in use when they were removed
        self._pool: Pool = open_pool(root, options)
        try:
            self._base_sectors, self._fs = self._open_base()
        except BaseException:
            self._pool.close()
            raise

    @property
    def thin(self) -> ThinPool:
        """The pool."""
        return self._pool.thin

    def layer(self, snapshot_id: int) -> str:
        """See Driver."""
        return f"{self.root}/{snapshot_id}/fs"

    def create(self, snapshot_id: int, chain: list[int], kind: Kind, labels: Labels) -> None:
        """See Driver. Raises ResourceExhausted when the pool is fuller than dm.min_free_space lets it be."""
        number = 2 * snapshot_id
        if number + 1 > ID_MAX:
            raise ResourceExhausted(f"devmapper: snapshot {snapshot_id}: the pool has no more device numbers")
        wanted = -(-quota_of(labels) // dm.SECTOR_BYTES)
        if wanted and wanted < self._base_sectors:
            least = self._base_sectors * dm.SECTOR_BYTES
            raise InvalidArgument(f"devmapper: Container size cannot be smaller than {least} bytes, the base device's")
        self._finish_deferred()
        self.thin.require_free(self._options.min_free_percent)
        origin = self._record(chain[0]) if chain else _Record(_BASE_NUMBER, self._base_sectors)
        sectors = max(wanted, origin.sectors)
        top = f"{self.root}/{snapshot_id}"
        os.mkdir(top, 0o700)
        try:
            os.mkdir(f"{top}/fs", 0o755)
            write_durably(f"{top}/device.json", json.dumps({"number": number, "sectors": sectors}))
            sync_directory(self.root)
            self._snapshot(number, origin.number, chain)
            if sectors > origin.sectors:
                self._grow(snapshot_id, number, sectors)
        except BaseException:
            with suppress(OSError):
                self._destroy(snapshot_id)
            raise

    def mounts(self, snapshot_id: int, chain: list[int], kind: Kind, labels: Labels) -> list[Mount]:
        """See Driver: mounts the device and hands out its directory."""
        read_only = kind is Kind.VIEW
        record = self._record(snapshot_id)
        with self._lock:
            self._mount(snapshot_id, record, read_only)
        return [Mount("bind", self.layer(snapshot_id), ("ro" if read_only else "rw", "rbind"))]

    def ensure(self, source: str) -> None:
        """See Driver: the device, mounted again."""
        top, name = os.path.split(source)
        if name == "fs" and os.path.dirname(top) == self.root and os.path.exists(f"{top}/device.json"):
            snapshot_id = int(os.path.basename(top))
            with self._lock:
                self._mount(snapshot_id, self._record(snapshot_id), read_only=False)

    def stack(self, snapshot_id: int, chain: list[int], pending: Pending) -> None:
        """See Driver. The layer's files are written twice: file systems of their own share no extents."""
        from rorqual.containerd.snapshotters.stack import stack  # with the unpacker: for who uses it

        top = f"{self.root}/{snapshot_id}"
        old, parent = self._record(snapshot_id), self._record(chain[0])
        new = _Record(old.number ^ 1, max(old.sectors, parent.sectors))
        with self._lock:
            self._mount(snapshot_id, old, read_only=False)
            self.thin.delete(new.number)  # of an attempt that was killed
        self._snapshot(new.number, parent.number, chain)
        os.makedirs(f"{top}/new", 0o755, exist_ok=True)
        device = self.thin.activate(self._device(snapshot_id, "-new"), new.number, new.sectors)
        try:
            self._fs.mount(device, f"{top}/new", read_only=False)
            if pending.directories:
                inherit_directories(f"{top}/fs", [f"{top}/new"], pending.directories)
            stack(f"{top}/fs", f"{top}/new", f"{top}/new", Pending(links=pending.links))
            mount.umount(f"{top}/new")
        finally:
            with suppress(OSError):
                mount.umount(f"{top}/new", mount.MNT_DETACH)
            self.thin.deactivate(self._device(snapshot_id, "-new"))
        os.rmdir(f"{top}/new")
        with self._lock:
            self._unmount(snapshot_id)
            write_durably(f"{top}/device.json", json.dumps({"number": new.number, "sectors": new.sectors}))
            self.thin.delete(old.number)

    def seal(self, snapshot_id: int) -> None:
        """See Driver: written, unmounted, given up."""
        with self._lock:
            self._unmount(snapshot_id)

    def remove(self, snapshot_id: int) -> None:
        """See Driver. A device that is in use is deleted with a later removal."""
        self._finish_deferred()
        try:
            self._destroy(snapshot_id)
        except OSError as e:
            if e.errno != errno.EBUSY:
                raise
            with self._lock:
                self._deferred.add(snapshot_id)

    def status(self) -> list[tuple[str, str]]:
        """See Driver: Docker's lines."""
        with self._lock:
            deferred = len(self._deferred)
        try:
            return driver_status(self._pool, self._base_sectors, self._fs.kind, self._options, deferred)
        except (OSError, Unavailable) as e:
            return [("Pool Name", self.thin.name), ("Pool Status", str(e))]

    def close(self) -> None:
        """See Driver: what no container uses is unmounted; the pool goes if we made it and nothing is active."""
        with self._lock:
            for name in os.listdir(self.root):
                if name.isdigit():
                    with suppress(OSError):
                        self._unmount(int(name), wait=False)
        self._pool.close()

    # -- devices

    def _device(self, snapshot_id: int, suffix: str = "") -> str:
        return f"{self._prefix}-{snapshot_id}{suffix}"

    def _record(self, snapshot_id: int) -> _Record:
        with open(f"{self.root}/{snapshot_id}/device.json", encoding="utf-8") as file:
            document = json.load(file)
        return _Record(document["number"], document["sectors"])

    def _snapshot(self, number: int, origin: int, chain: list[int]) -> None:
        """Thin device `number`, of the base device or the chain's first; the lock keeps the origin as it is."""
        with self._lock:
            name = self._device(chain[0]) if chain else f"{self._prefix}-base"
            active = dm.status(name)
            self.thin.snapshot(number, origin, name if active is not None and active.is_live else "")

    def _mount(self, snapshot_id: int, record: _Record, read_only: bool) -> None:
        """Under the lock; a second time does nothing."""
        point = self.layer(snapshot_id)
        if not os.path.ismount(point):
            device = self.thin.activate(self._device(snapshot_id), record.number, record.sectors)
            self._fs.mount(device, point, read_only=read_only)

    def _unmount(self, snapshot_id: int, *, wait: bool = True) -> None:
        """Under the lock. With `wait`, one that somebody looks at is written out and goes when that ends."""
        point = self.layer(snapshot_id)
        if os.path.ismount(point):
            try:
                mount.umount(point)
            except OSError as e:
                if e.errno != errno.EBUSY or not wait:
                    raise
                syncfs(point)
                mount.umount(point, mount.MNT_DETACH)
        self.thin.deactivate(self._device(snapshot_id), deferred=wait, attempts=_ATTEMPTS if wait else 1)

    def _grow(self, snapshot_id: int, number: int, sectors: int) -> None:
        with self._lock:
            self._mount(snapshot_id, _Record(number, sectors), read_only=False)
            self._fs.grow(self.thin.activate(self._device(snapshot_id), number, sectors), self.layer(snapshot_id))

    def _destroy(self, snapshot_id: int) -> None:
        """Mount, devices, directory, in this order. Raises OSError: FileNotFoundError; EBUSY while in use."""
        top = f"{self.root}/{snapshot_id}"
        os.stat(top)
        with self._lock:
            for name, suffix in (("new", "-new"), ("fs", "")):
                if os.path.ismount(f"{top}/{name}"):
                    mount.umount(f"{top}/{name}", mount.MNT_DETACH)
                self.thin.deactivate(self._device(snapshot_id, suffix), deferred=True)
            for number in (2 * snapshot_id, 2 * snapshot_id + 1):
                if self._options.discard and self._pool.files:
                    self._discard(snapshot_id, number)
                self.thin.delete(number)
        removal.remove_tree(top)

    def _discard(self, snapshot_id: int, number: int) -> None:
        """Give the blocks back to the file below the pool too; deleting alone gives them back to the pool."""
        record = self._record_or_none(snapshot_id)
        if record is None or record.number != number:
            return
        name = self._device(snapshot_id)
        try:
            device = self.thin.activate(name, number, record.sectors)
            self._fs.discard(device)
        except OSError:
            return  # it is deleted all the same
        finally:
            self.thin.deactivate(name, deferred=True)

    def _record_or_none(self, snapshot_id: int) -> _Record | None:
        try:
            return self._record(snapshot_id)
        except (OSError, ValueError):
            return None  # cut short before it was written: there is no device

    def _finish_deferred(self) -> None:
        with self._lock:
            waiting = list(self._deferred)
        for snapshot_id in waiting:
            try:
                self._destroy(snapshot_id)
            except FileNotFoundError:
                pass  # gone
            except OSError:
                continue
            with self._lock:
                self._deferred.discard(snapshot_id)

    # -- the base device

    def _open_base(self) -> tuple[int, ThinFileSystem]:
        """(sectors, file system) of the base device, made at the first start, grown when dm.basesize has."""
        wanted = self._options.base_bytes // dm.SECTOR_BYTES
        path = f"{self.root}/base.json"
        try:
            with open(path, encoding="utf-8") as file:
                base = json.load(file)
        except FileNotFoundError:
            return self._make_base(wanted, path)
        status = self.thin.status()
        if base["pool"] != self.thin.name and self._options.pool:
            raise InvalidArgument(f"devmapper: the images are in thin pool {base['pool']}, not {self.thin.name}")
        if status.transaction != _OWNED:
            raise InvalidArgument(f"devmapper: thin pool {self.thin.name} is not the one that has the images")
        fs = ThinFileSystem(base["file_system"], self._options.mount_options)
        if self._options.file_system not in ("", fs.kind):
            raise InvalidArgument(
                f"devmapper: dm.fs is {fs.kind} already: {self._options.file_system} needs a new pool"
            )
        sectors = int(base["sectors"])
        if wanted > sectors:
            self._with_base(wanted, fs.grow, fs)
            write_durably(path, json.dumps({**base, "sectors": wanted}))
            sectors = wanted
        return sectors, fs

    def _make_base(self, sectors: int, path: str) -> tuple[int, ThinFileSystem]:
        kind = self._options.file_system or ("xfs" if shutil.which("mkfs.xfs") else "ext4")
        fs = ThinFileSystem(kind, self._options.mount_options)
        intent = f"{self.root}/base.making"
        status = self.thin.status()
        if not os.path.exists(intent):
            if status.data_used or status.transaction:
                raise InvalidArgument(
                    f"devmapper: Unable to take ownership of thin-pool ({self.thin.name}) that already has used data "
                    "blocks"
                )
            write_durably(intent, self.thin.name)
        self.thin.deactivate(f"{self._prefix}-base")
        self.thin.delete(_BASE_NUMBER)
        self.thin.create(_BASE_NUMBER)
        device = self.thin.activate(f"{self._prefix}-base", _BASE_NUMBER, sectors)
        try:
            fs.make(device, self._options.mkfs_arguments)
        finally:
            self.thin.deactivate(f"{self._prefix}-base")
        self._with_base(sectors, fs.clear, fs)
        if status.transaction == 0:
            self.thin.set_transaction(0, _OWNED)
        write_durably(path, json.dumps({"sectors": sectors, "file_system": kind, "pool": self.thin.name}))
        os.unlink(intent)
        return sectors, fs

    def _with_base(self, sectors: int, work: Callable[[str, str], None], fs: ThinFileSystem) -> None:
        """`work` on the base device's path and its files, mounted for that."""
        name, point = f"{self._prefix}-base", f"{self.root}/base"
        os.makedirs(point, 0o700, exist_ok=True)
        if os.path.ismount(point):
            mount.umount(point, mount.MNT_DETACH)  # of a start that was killed
        device = self.thin.activate(name, _BASE_NUMBER, sectors)
        try:
            fs.mount(device, point, read_only=False)
            try:
                work(device, point)
            finally:
                mount.umount(point)
        finally:
            self.thin.deactivate(name)
