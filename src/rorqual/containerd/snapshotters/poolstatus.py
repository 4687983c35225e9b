"""What `docker info` tells of the devicemapper driver, in Docker's words and order.

Source: moby daemon/graphdriver/devmapper, Status.
"""

from __future__ import annotations

from rorqual.containerd.snapshotters.dmoptions import DmOptions
from rorqual.containerd.snapshotters.poolsetup import Pool
from rorqual.linux import dm, loop

_METADATA_BLOCK_BYTES = 4096  # the kernel's
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def driver_status(
    pool: Pool, base_sectors: int, file_system: str, options: DmOptions, deferred: int
) -> list[tuple[str, str]]:
    """(key, value) each. Raises Unavailable for a pool that has failed."""
    now, block = pool.thin.status(), pool.thin.block_bytes
    data_free, metadata_free = now.data_total - now.data_used, now.metadata_total - now.metadata_used
    least = now.data_total * options.min_free_percent // 100
    lines = [
        ("Pool Name", pool.thin.name),
        ("Pool Blocksize", size(block)),
        ("Base Device Size", size(base_sectors * dm.SECTOR_BYTES)),
        ("Backing Filesystem", file_system),
        ("Udev Sync Supported", "true"),
    ]
    if pool.files:
        metadata, data = pool.files
        lines += [("Data file", loop.device_of(data)), ("Metadata file", loop.device_of(metadata))]
        lines += [("Data loop file", data), ("Metadata loop file", metadata)]
    lines += [
        ("Data Space Used", size(now.data_used * block)),
        ("Data Space Total", size(now.data_total * block)),
        ("Data Space Available", size(data_free * block)),
        ("Metadata Space Used", size(now.metadata_used * _METADATA_BLOCK_BYTES)),
        ("Metadata Space Total", size(now.metadata_total * _METADATA_BLOCK_BYTES)),
        ("Metadata Space Available", size(metadata_free * _METADATA_BLOCK_BYTES)),
        ("Thin Pool Minimum Free Space", size(least * block)),
        ("Deferred Removal Enabled", "true"),
        ("Deferred Deletion Enabled", "true"),
        ("Deferred Deleted Device Count", str(deferred)),
        ("Library Version", ".".join(map(str, dm.version()))),
    ]
    return lines


def size(count: float) -> str:
    """Bytes as Docker's info has them: four digits, powers of 1000."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count /= 1000
        unit += 1
    return f"{count:.4g}{_UNITS[unit]}"
