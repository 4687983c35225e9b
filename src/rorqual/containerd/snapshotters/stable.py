"""Unpacked layers on stable storage: before an image has a name, what it is made of would survive power loss.

    unpack, commit:  the row says `unsynced` = this boot's id          (no wait; the workers have begun to write it)
    a name:          one syncfs for all layers that wait, then `unsynced` = '', then the name, then the log's fdatasync
    next start:      rows of another boot that are still unsynced are forgotten, their files with them

So a layer that power loss may have torn is unpacked again instead of being found by its name. What containers and other
writable snapshots stand on is kept, with a warning: their own files are worth more than a layer that can be checked.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from rorqual.containerd.metadata.database import Database
from rorqual.errdefs import Internal

log = logging.getLogger(__name__)

# every snapshot that a writable or viewed one stands on
_STOOD_ON = (
    "WITH RECURSIVE needed (id, parent) AS (SELECT id, parent FROM snapshots WHERE kind != 3"
    " UNION SELECT s.id, s.parent FROM snapshots s JOIN needed n ON s.id = n.parent) "
)


class StableStorage:
    """Of all snapshotters; `roots` are their directories, which may be on different file systems."""

    def __init__(self, db: Database, roots: Mapping[str, str], boot_id: str) -> None:
        self._db = db
        self._roots = roots
        self.boot_id = boot_id
        self._sync: asyncio.Task[None] | None = None

    def forget_torn(self) -> int:
        """At start: drop the layers that another boot did not sync; how many. Their directories are cleanup's."""
        torn = "unsynced NOT IN ('', ?)"
        with self._db.write():
            self._db.execute("PRAGMA defer_foreign_keys=ON")
            sql = f"DELETE FROM snapshots WHERE {torn} AND id NOT IN ({_STOOD_ON} SELECT id FROM needed)"
            dropped = self._db.execute(sql, (self.boot_id,)).rowcount
            kept = [name for (name,) in self._db.rows(f"SELECT name FROM snapshots WHERE {torn}", self.boot_id)]
            self._db.execute(f"UPDATE snapshots SET unsynced = '' WHERE {torn}", (self.boot_id,))
        for name in kept:
            log.warning("snapshot %s was not synced before the machine went down; kept, as others stand on it", name)
        return dropped

    async def settle(self) -> None:
        """Return once every layer committed before the call would survive power loss. Raises Internal (EIO, ENOSPC)."""
        wanted = self._unsynced().keys()
        while wanted & self._unsynced().keys():
            if self._sync is None or self._sync.done():
                self._sync = asyncio.create_task(self._run())
            await asyncio.shield(self._sync)

    def _unsynced(self) -> dict[int, str]:
        """Snapshotters by the snapshots' ids."""
        rows = self._db.rows("SELECT id, snapshotter FROM snapshots WHERE unsynced != '' AND kind = 3")
        return dict(rows)

    async def _run(self) -> None:
        unsynced = self._unsynced()
        try:
            for name in sorted(set(unsynced.values())):
                await syncfs(self._roots[name])
        except OSError as e:
            raise Internal(f"snapshots: {self._roots[name]} cannot be synced: {e}") from e
        with self._db.write():
            self._db.execute_many("UPDATE snapshots SET unsynced = '' WHERE id = ?", [(i,) for i in unsynced])


async def syncfs(path: str) -> None:
    """Put everything written to the file system of `path` on stable storage. Raises OSError (EIO, ENOSPC).

    By sync(1): a thread in syncfs(2) cannot be killed while the disk is busy, and would hold up this process's end.
    """
    process = await asyncio.create_subprocess_exec(
        "sync",
        "-f",
        path,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={"LC_ALL": "C", "PATH": os.defpath},
    )
    _, said = await process.communicate()
    if process.returncode:
        raise OSError(errno.EIO, said.decode(errors="replace").strip())


def boot_id() -> str:
    """Of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
