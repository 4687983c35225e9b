"""native (Docker's vfs): every snapshot a whole copy of its parent. Any file system; slow, and large without reflinks.

    <root>/<id>/fs      all of the snapshot's files
    <root>/<id>/new     the same, being put together when a layer gets its parent

A view of a parent is the parent's own directory, mounted read-only.
"""

from __future__ import annotations

import os
from contextlib import suppress

from rorqual.containerd.metadata.records import Kind, Labels, Pending
from rorqual.containerd.snapshotters.contract import refuse_quota
from rorqual.containerd.snapshotters.whole import WholeTrees
from rorqual.linux import removal


class NativeDriver(WholeTrees):
    """Implements contract.Driver."""

    name = "native"

    def create(self, snapshot_id: int, chain: list[int], kind: Kind, labels: Labels) -> None:
        """See Driver."""
        refuse_quota(self.name, labels)
        top = f"{self.root}/{snapshot_id}"
        os.mkdir(top, 0o700)
        os.mkdir(f"{top}/fs", 0o755)
        if chain and kind is Kind.ACTIVE:
            from rorqual.containerd.snapshotters.stack import copy_tree  # with the unpacker: for who uses it

            try:
                copy_tree(self.layer(chain[0]), f"{top}/fs")
            except BaseException:
                removal.remove_tree(top)
                raise

    def stack(self, snapshot_id: int, chain: list[int], pending: Pending) -> None:
        """See Driver. Files are written twice, unless the file system has reflinks."""
        from rorqual.containerd.snapshotters.stack import copy_tree, stack

        top = f"{self.root}/{snapshot_id}"
        with suppress(FileNotFoundError):
            removal.remove_tree(f"{top}/new")  # of an attempt that was killed
        os.mkdir(f"{top}/new", 0o755)
        copy_tree(self.layer(chain[0]), f"{top}/new")
        stack(f"{top}/fs", f"{top}/new", self.layer(chain[0]), pending)
        os.rename(f"{top}/fs", f"{top}/old")
        os.rename(f"{top}/new", f"{top}/fs")
        removal.remove_tree(f"{top}/old")

    def remove(self, snapshot_id: int) -> None:
        """See Driver."""
        removal.remove_tree(f"{self.root}/{snapshot_id}")
