"""What the snapshotters share that keep all of a snapshot's files in one directory of its own: native and btrfs."""

from __future__ import annotations

from rorqual.containerd.metadata.records import Kind, Labels
from rorqual.containerd.snapshotters.contract import Mount


class WholeTrees:
    """`<root>/<id>/fs` has all of a snapshot's files; a view of a parent is the parent's own directory, read-only."""

    def __init__(self, root: str) -> None:
        self.root = root

    def layer(self, snapshot_id: int) -> str:
        """See Driver."""
        return f"{self.root}/{snapshot_id}/fs"

    def mounts(self, snapshot_id: int, chain: list[int], kind: Kind, labels: Labels) -> list[Mount]:
        """See Driver."""
        source = self.layer(chain[0]) if chain and kind is Kind.VIEW else self.layer(snapshot_id)
        return [Mount("bind", source, ("rw" if kind is Kind.ACTIVE else "ro", "rbind"))]

    def ensure(self, source: str) -> None:
        """Nothing: a directory is enough."""

    def seal(self, snapshot_id: int) -> None:
        """Nothing: a directory is all there is."""

    def status(self) -> list[tuple[str, str]]:
        """Nothing."""
        return []

    def close(self) -> None:
        """Nothing."""
