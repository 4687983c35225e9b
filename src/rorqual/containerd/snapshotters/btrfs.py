"""btrfs: every snapshot a subvolume; a child is a snapshot of its parent, made at once and sharing its extents.

    <root>/<id>/fs      the subvolume: all of the snapshot's files
    <root>/<id>/new     the same, being put together when a layer gets its parent

<root> must be on btrfs. `--storage-opt size=` is a quota group's limit on what the subvolume refers to, its image's
files included, as in Docker.
"""

from __future__ import annotations

import errno
import os

from rorqual.containerd.metadata.records import Kind, Labels, Pending
from rorqual.containerd.snapshotters.contract import quota_of
from rorqual.containerd.snapshotters.whole import WholeTrees
from rorqual.errdefs import InvalidArgument
from rorqual.linux import btrfs, removal

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class BtrfsDriver(WholeTrees):
    """Implements contract.Driver."""

    name = "btrfs"

    def create(self, snapshot_id: int, chain: list[int], kind: Kind, labels: Labels) -> None:
        """See Driver."""
        limit = quota_of(labels)
        top = f"{self.root}/{snapshot_id}"
        os.mkdir(top, 0o700)
        if kind is Kind.VIEW and chain:
            return
        try:
            self._subvolume(top, "fs", chain)
            if limit:
                self._limit(snapshot_id, limit)
        except BaseException:
            self._destroy(top)
            raise

    def stack(self, snapshot_id: int, chain: list[int], pending: Pending) -> None:
        """See Driver. The layer's files are reflinked: no data is copied."""
        from rorqual.containerd.snapshotters.stack import stack  # with the unpacker: for who uses it

        top = f"{self.root}/{snapshot_id}"
        if os.path.exists(f"{top}/new"):
            _remove_subvolume(top, "new")
        self._subvolume(top, "new", chain)
        stack(f"{top}/fs", f"{top}/new", self.layer(chain[0]), pending)
        os.rename(f"{top}/fs", f"{top}/old")
        os.rename(f"{top}/new", f"{top}/fs")
        _remove_subvolume(top, "old")

    def remove(self, snapshot_id: int) -> None:
        """See Driver."""
        self._destroy(f"{self.root}/{snapshot_id}")

    def _subvolume(self, top: str, name: str, chain: list[int]) -> None:
        """`name`, over the chain's first; empty without one."""
        top_fd = os.open(top, _DIR)
        try:
            if not chain:
                btrfs.create_subvolume(top_fd, name)
                return
            source = os.open(self.layer(chain[0]), _DIR)
            try:
                btrfs.create_snapshot(source, top_fd, name)
            finally:
                os.close(source)
        finally:
            os.close(top_fd)

    def _limit(self, snapshot_id: int, max_bytes: int) -> None:
        fd = os.open(self.layer(snapshot_id), _DIR)
        try:
            btrfs.enable_quota(fd)
            btrfs.limit_referenced(fd, max_bytes)
        except OSError as e:
            raise InvalidArgument(f"btrfs: size quota of {max_bytes} bytes: {e.strerror}") from e
        finally:
            os.close(fd)

    def _destroy(self, top: str) -> None:
        for name in os.listdir(top):
            _remove_subvolume(top, name)
        os.rmdir(top)


def _remove_subvolume(top: str, name: str) -> None:
    top_fd = os.open(top, _DIR)
    try:
        btrfs.destroy_subvolume(top_fd, name)
    except OSError as e:
        if e.errno not in (errno.ENOTEMPTY, errno.EINVAL, errno.EPERM):
            raise
        # a container made subvolumes of its own in it, or it is a plain directory
        removal.remove_tree(f"{top}/{name}")
    finally:
        os.close(top_fd)
