"""native: every snapshot a whole copy of its parent. Works on any file system; slow, and large without reflinks.

    <root>/<id>/fs      all of the snapshot's files

A view of a parent is the parent's own directory, mounted read-only.
"""

from __future__ import annotations

import os
import shutil
import subprocess

from rorqual.containerd.metadata.records import Kind, Labels
from rorqual.containerd.snapshotters.contract import Mount
from rorqual.errdefs import Internal


class NativeDriver:
    """Implements contract.Driver."""

    name = "native"
    rebases = False

    def __init__(self, root: str) -> None:
        self.root = root

    def layer(self, snapshot_id: int) -> str:
        """See Driver."""
        return f"{self.root}/{snapshot_id}/fs"

    def create(self, snapshot_id: int, chain: list[int], kind: Kind) -> None:
        """See Driver."""
        top = f"{self.root}/{snapshot_id}"
        os.mkdir(top, 0o700)
        os.mkdir(f"{top}/fs", 0o755)
        if chain and kind is Kind.ACTIVE:
            # cp knows hard links, sparse files, devices, ACLs and reflinks
            command = ["cp", "-a", "--reflink=auto", f"{self.layer(chain[0])}/.", f"{top}/fs"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                shutil.rmtree(top, ignore_errors=True)
                raise Internal(f"snapshotter native: {done.stderr.strip()}")

    def mounts(self, snapshot_id: int, chain: list[int], kind: Kind, labels: Labels) -> list[Mount]:
        """See Driver."""
        source = self.layer(chain[0]) if chain and kind is Kind.VIEW else self.layer(snapshot_id)
        return [Mount("bind", source, ("rw" if kind is Kind.ACTIVE else "ro", "rbind"))]
