"""A thin pool: the devices in it by number, and how full it is. Over the kernel's device mapper; keeps nothing itself.

    <pool> data device, metadata device        thin device n = a block device that has room as it is written

Making and deleting is by messages to the pool, which commits its metadata before it answers.
Source: Documentation/admin-guide/device-mapper/thin-provisioning.rst.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from dataclasses import dataclass

from rorqual.errdefs import ResourceExhausted, Unavailable
from rorqual.linux import dm

ID_MAX = (1 << 24) - 1
_BUSY_ATTEMPTS, _BUSY_WAIT_S = 20, 0.05


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """Blocks of the data and of the metadata device; `mode` is rw, ro, out_of_data_space, Fail or Error."""

    transaction: int
    metadata_used: int
    metadata_total: int
    data_used: int
    data_total: int
    mode: str


class ThinPool:
    """`name` as below /dev/mapper; the device is there and live."""

    def __init__(self, name: str) -> None:
        self.name = name
        (table,) = dm.targets(name, table=True)
        if table.type != "thin-pool":
            raise Unavailable(f"devmapper: {name} is no thin pool but {table.type}")
        metadata, data, block, *_ = table.parameters.split()
        self.metadata_device, self.data_device = metadata, data
        self.block_bytes = int(block) * dm.SECTOR_BYTES

    def status(self) -> PoolStatus:
        """Raises Unavailable for a pool that has failed."""
        (target,) = dm.targets(self.name)
        fields = target.parameters.split()
        if len(fields) < 5:
            raise Unavailable(f"devmapper: thin pool {self.name}: {target.parameters or 'no status'}")
        metadata_used, metadata_total = map(int, fields[1].split("/"))
        data_used, data_total = map(int, fields[2].split("/"))
        return PoolStatus(int(fields[0]), metadata_used, metadata_total, data_used, data_total, fields[4])

    def require_free(self, percent: int) -> None:
        """Raises ResourceExhausted, with Docker's texts, when less of data or metadata is free."""
        now = self.status()
        for what, used, total in (
            ("data", now.data_used, now.data_total),
            ("metadata", now.metadata_used, now.metadata_total),
        ):
            least = total * percent // 100
            if percent and total - used < max(least, 1):
                raise ResourceExhausted(
                    f"devmapper: Thin Pool has {total - used} free {what} blocks which is less than minimum required "
                    f"{max(least, 1)} free {what} blocks. Create more free space in thin pool or use dm.min_free_space "
                    "option to change behavior"
                )

    def create(self, number: int) -> None:
        """An empty thin device. Raises OSError (EEXIST)."""
        dm.message(self.name, f"create_thin {number}")

    def snapshot(self, number: int, origin: int, active_origin: str = "") -> None:
        """A copy of thin device `origin`, held still meanwhile if it is active under a name. Raises OSError."""
        if active_origin:
            dm.suspend(active_origin)
        try:
            dm.message(self.name, f"create_snap {number} {origin}")
        finally:
            if active_origin:
                dm.resume(active_origin)

    def delete(self, number: int) -> None:
        """No such device is no error. Raises OSError (EBUSY while it is active)."""
        try:
            dm.message(self.name, f"delete {number}")
        except OSError as e:
            if e.errno != errno.ENODATA:
                raise

    def set_transaction(self, old: int, new: int) -> None:
        """The number that the pool keeps for its owner. Raises OSError (EINVAL: it is not `old`)."""
        dm.message(self.name, f"set_transaction_id {old} {new}")

    def activate(self, name: str, number: int, sectors: int) -> str:
        """The path of the block device `name` for thin device `number`; again, with another size, it grows.

        What an activation left that was cut short is finished.
        """
        pool = dm.status(self.name)
        if pool is None:
            raise Unavailable(f"devmapper: thin pool {self.name} is gone")
        device = dm.status(name)
        if device is not None and device.flags & dm.DM_DEFERRED_REMOVE:
            dm.message(name, "@cancel_deferred_remove")
        if device is None or not device.is_live or dm.targets(name)[0].length != sectors:
            if device is None:
                device = dm.create(name)
            table = f"{_numbers(pool.dev)} {number}"
            try:
                dm.load(name, [dm.Target(0, sectors, "thin", table)])
                dm.resume(name)
            except OSError:
                if not device.is_live:
                    with suppress(OSError):
                        dm.remove(name)
                raise
        return dm.node(device)

    def deactivate(self, name: str, *, deferred: bool = False, attempts: int = _BUSY_ATTEMPTS) -> None:
        """End the block device; not there is no error. `deferred`: one that stays in use ends when it no longer is.

        Raises OSError (EBUSY: in use, after all attempts).
        """
        for attempt in range(attempts):
            try:
                dm.remove(name, deferred=deferred and attempt == attempts - 1)
                return
            except OSError as e:
                if e.errno == errno.ENXIO:
                    return
                if e.errno != errno.EBUSY:
                    raise
                if attempt == attempts - 1:
                    raise
            time.sleep(_BUSY_WAIT_S)


def _numbers(dev: int) -> str:
    return f"{os.major(dev)}:{os.minor(dev)}"
