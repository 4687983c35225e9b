"""The thin pool that the options name, found or made: LVM's, one on a block device of our own, or one on two files.

    dm.thinpooldev          a pool that somebody keeps (LVM), used as it is
    dm.directlvm_device     <device> cut into metadata and data by two linear devices; <root>/pool.json keeps the cut
    neither                 <root>/data and <root>/metadata, sparse, behind loop devices: for a try, as in Docker

What was made is made again after a reboot, from what is on disk. Raises here: InvalidArgument for what the options
name wrongly, Unavailable for what does not work, OSError.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rorqual.containerd.snapshotters.dmoptions import DmOptions
from rorqual.containerd.snapshotters.thinpool import ThinPool
from rorqual.errdefs import InvalidArgument, Unavailable
from rorqual.linux import dm, loop
from rorqual.linux.sync import write_durably

log = logging.getLogger(__name__)

_LOW_WATER_BLOCKS = 32768
_METADATA_MIN_BYTES, _METADATA_MAX_BYTES = 2 << 20, 16 << 30  # Source: thin-provisioning.rst
_SUPERBLOCK_BYTES = 4096
_SIGNATURES_BYTES = 128 << 10  # file systems, partition tables and LVM all mark themselves within


@dataclass(frozen=True, slots=True)
class Pool:
    """`devices`, `files`: of our own making, to be given up with the pool; the files are (metadata, data)."""

    thin: ThinPool
    devices: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def close(self) -> None:
        """Give up what was made, unless thin devices are active. What is on disk stays."""
        try:
            for name in self.devices:
                with suppress(FileNotFoundError):
                    _remove(name)
        except OSError as e:
            if e.errno != errno.EBUSY:
                log.warning("devmapper: %s stays: %s", self.thin.name, e.strerror)
            return
        for path in self.files:
            if device := loop.device_of(path):
                loop.detach(device)


def open_pool(root: str, options: DmOptions) -> Pool:
    """See the module."""
    prefix = name_prefix(root)
    if options.pool:
        found = dm.status(options.pool)
        if found is None or not found.is_live:
            raise InvalidArgument(f"devmapper: thin pool {options.pool} does not exist")
        return Pool(ThinPool(options.pool))
    if options.device:
        return _on_device(root, options, prefix)
    return _on_files(root, options, prefix)


def name_prefix(root: str) -> str:
    """Of the devices of this root, as Docker makes it."""
    status = os.stat(root)
    return f"rorqual-{os.major(status.st_dev)}:{os.minor(status.st_dev)}-{status.st_ino}"


def _on_files(root: str, options: DmOptions, prefix: str) -> Pool:
    files = []
    for name, size in (("metadata", options.loop_metadata_bytes), ("data", options.loop_data_bytes)):
        path = f"{root}/{name}"
        with open(path, "ab") as file:
            if file.tell() < size:
                file.truncate(size)
            os.fsync(file.fileno())
        files.append(path)
    log.warning("devmapper: usage of loopback devices is strongly discouraged for production use; see dm.thinpooldev")
    metadata, data = (loop.attach(path) for path in files)
    name = f"{prefix}-pool"
    _pool(name, metadata, data, loop.size_of(data) // dm.SECTOR_BYTES, options)
    return Pool(ThinPool(name), (name,), tuple(files))


def _on_device(root: str, options: DmOptions, prefix: str) -> Pool:
    layout = Path(root, "pool.json")
    if layout.exists():
        cut = json.loads(layout.read_text())
        if cut["device"] != options.device:
            raise InvalidArgument(f"devmapper: dm.directlvm_device is {cut['device']} already, not {options.device}")
    else:
        cut = _cut(options)
        write_durably(str(layout), json.dumps(cut))
    names = (f"{prefix}-pool", f"{prefix}-tdata", f"{prefix}-tmeta")
    start = 0
    nodes = []
    for name, sectors in ((names[2], cut["metadata_sectors"]), (names[1], cut["data_sectors"])):
        _make(name, dm.Target(0, sectors, "linear", f"{options.device} {start}"))
        found = dm.status(name)
        if found is None:
            raise Unavailable(f"devmapper: {name} is gone")
        nodes.append(dm.node(found))
        start += sectors
    _pool(names[0], nodes[0], nodes[1], cut["data_sectors"], options)
    return Pool(ThinPool(names[0]), names)


def _cut(options: DmOptions) -> dict[str, object]:
    """How a new device is cut; its old metadata, if any, is wiped. Refuses one that holds something."""
    device = options.device
    try:
        if not stat.S_ISBLK(os.stat(device).st_mode):
            raise InvalidArgument(f"devmapper: dm.directlvm_device {device} is no block device")
        sectors = loop.size_of(device) // dm.SECTOR_BYTES
        with open(device, "r+b", buffering=0) as file:
            if file.read(_SIGNATURES_BYTES).strip(b"\0") and not options.device_force:
                raise InvalidArgument(
                    f"devmapper: {device} is not empty, "
                    "use dm.directlvm_device_force=true if you want to wipe the device"
                )
            file.seek(0)
            file.write(b"\0" * _SUPERBLOCK_BYTES)
            os.fsync(file.fileno())
    except OSError as e:
        raise InvalidArgument(f"devmapper: dm.directlvm_device {device}: {e.strerror}") from e
    block = options.block_bytes // dm.SECTOR_BYTES
    wanted = sectors * options.metadata_percent // 100
    metadata = min(max(wanted, _METADATA_MIN_BYTES // dm.SECTOR_BYTES), _METADATA_MAX_BYTES // dm.SECTOR_BYTES)
    metadata = -(-metadata // block) * block
    data = min(sectors * options.data_percent // 100, sectors - metadata) // block * block
    if data <= 0:
        raise InvalidArgument(f"devmapper: dm.directlvm_device {device} is too small")
    return {"device": device, "metadata_sectors": metadata, "data_sectors": data}


def _pool(name: str, metadata: str, data: str, sectors: int, options: DmOptions) -> None:
    block = options.block_bytes // dm.SECTOR_BYTES
    features = f"{metadata} {data} {block} {_LOW_WATER_BLOCKS} 1 skip_block_zeroing"
    _make(name, dm.Target(0, sectors // block * block, "thin-pool", features))


def _make(name: str, target: dm.Target) -> None:
    """The live device, unless it is there already; one that was left without a table is finished."""
    found = dm.status(name)
    if found is not None and found.is_live:
        return
    if found is None:
        dm.create(name)
    try:
        dm.load(name, [target])
        dm.resume(name)
    except OSError as e:
        dm.remove(name)
        raise Unavailable(f"devmapper: {target.type} device {name}: {e.strerror}") from e


def _remove(name: str) -> None:
    try:
        dm.remove(name)
    except OSError as e:
        if e.errno != errno.ENXIO:
            raise
