"""What a snapshotter is. tests/contracts/test_snapshotters.py holds every one of them to it.

A snapshot is *active* (writable, named by its key), a *view* (read-only, by key) or *committed* (read-only, by name);
only a committed one can be a parent, and a committed one never changes. Names are unique in a namespace.

- prepare and view make a new active or view whose files are those of its parent ("" for none), and return its mounts.
- mounts returns the same mounts again, at any time until the key ends.
- commit turns an active into a committed snapshot under a new name; the key ends. Nobody may have it mounted writable.
- remove ends any snapshot without children. It returns when the name is free; the files go in the background, and those
  of an interrupted removal at the next start (cleanup).
- A method that raises has changed nothing. All may be called concurrently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rorqual.containerd.metadata.records import Kind, Labels, Snapshot, Usage

PARENT_LABEL = "rorqual/parent"  # in commit's labels: the parent of a layer that was unpacked without one


@dataclass(frozen=True, slots=True)
class Mount:
    """As mount(8) takes it."""

    type: str
    source: str
    options: tuple[str, ...]


class Snapshotter(Protocol):
    """See the module. `pinned` snapshots are safe from garbage collection; `transient` ones end with this process."""

    name: str

    async def prepare(
        self, ns: str, key: str, parent: str, labels: Labels, *, pinned: bool = True, transient: bool = False
    ) -> list[Mount]:
        """Raises AlreadyExists, NotFound (parent), InvalidArgument (parent not committed)."""

    async def view(self, ns: str, key: str, parent: str, labels: Labels, *, pinned: bool = True) -> list[Mount]:
        """Raises as prepare."""

    def mounts(self, ns: str, key: str) -> list[Mount]:
        """Raises NotFound, Conflict for a committed one."""

    async def commit(self, ns: str, name: str, key: str, labels: Labels, parent: str = "") -> None:
        """`parent`: of a parentless layer. Raises AlreadyExists, NotFound, Conflict (not active, has a parent)."""

    async def remove(self, ns: str, key: str) -> None:
        """Raises NotFound, Conflict (has children)."""

    def stat(self, ns: str, key: str) -> Snapshot:
        """Raises NotFound."""

    async def usage(self, ns: str, key: str) -> Usage:
        """Of its own files, without its parents'. Raises NotFound."""

    def walk(self, ns: str) -> list[Snapshot]:
        """All of a namespace, parents before children."""

    def update(self, ns: str, key: str, labels: Labels, paths: list[str]) -> Snapshot:
        """Change labels, the only mutable field. Raises NotFound, InvalidArgument."""

    async def cleanup(self) -> None:
        """Remove the files of removed snapshots; returns when they are gone."""


class Driver(Protocol):
    """The files of one kind of snapshotter. All but mounts may wait for the disk: called in a thread."""

    name: str
    rebases: bool  # whether a layer unpacked without its parent can be given one
    root: str

    def create(self, snapshot_id: int, chain: list[int], kind: Kind) -> None:
        """Make the directory of a new snapshot over `chain` (parent first). Leaves nothing when it raises."""

    def mounts(self, snapshot_id: int, chain: list[int], kind: Kind, labels: Labels) -> list[Mount]:
        """Of an active or a view."""

    def layer(self, snapshot_id: int) -> str:
        """The directory with the snapshot's own files."""
