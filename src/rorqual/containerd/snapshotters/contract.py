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

from rorqual.containerd.metadata.records import Kind, Labels, Pending, Snapshot, Usage
from rorqual.errdefs import InvalidArgument

SIZE_LABEL = "rorqual/size"  # bytes that an active snapshot may hold
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

    async def mounts(self, ns: str, key: str) -> list[Mount]:
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
    """The files of one kind of snapshotter. All but `layer` may wait for the disk: called in a thread."""

    name: str
    root: str

    def create(self, snapshot_id: int, chain: list[int], kind: Kind, labels: Labels) -> None:
        """Make the directory of a new snapshot over `chain` (parent first). Leaves nothing when it raises.

        Raises InvalidArgument for a size quota (SIZE_LABEL) that cannot be had.
        """

    def mounts(self, snapshot_id: int, chain: list[int], kind: Kind, labels: Labels) -> list[Mount]:
        """Of an active or a view. May mount something, and so wait for the disk, too."""

    def ensure(self, source: str) -> None:
        """Bring back what a mount handed out earlier needs beyond its directory, for one whose source is `source`."""

    def layer(self, snapshot_id: int) -> str:
        """The directory with the snapshot's own files; of a snapshot without parent, all of them."""

    def stack(self, snapshot_id: int, chain: list[int], pending: Pending) -> None:
        """Put a layer, unpacked without a parent and with whiteouts in overlayfs' form, on `chain` (parent first).

        The pending directories take owner, mode, times and xattrs of the parent's; a pending link's file is looked for
        in the parents. Raises InvalidArgument where it is in none; the snapshot is lost.
        """

    def seal(self, snapshot_id: int) -> None:
        """It is to be committed: nobody writes to it any more, so what kept it writable can go. May come twice."""

    def remove(self, snapshot_id: int) -> None:
        """Remove the directory. Raises FileNotFoundError, OSError."""

    def status(self) -> list[tuple[str, str]]:
        """What `docker info` tells of it beyond its name: (key, value) each."""

    def close(self) -> None:
        """The process ends, containers go on: give up what none of them needs."""


def quota_of(labels: Labels) -> int:
    """The size quota in bytes that a snapshot is to have; 0 for none. Raises InvalidArgument."""
    text = labels.get(SIZE_LABEL, "0")
    if not text.isdecimal():
        raise InvalidArgument(f"label {SIZE_LABEL}: {text!r} is not a number of bytes")
    return int(text)


def refuse_quota(name: str, labels: Labels) -> None:
    """Raises InvalidArgument when a size quota is asked of a snapshotter that has none."""
    if quota_of(labels):
        raise InvalidArgument(f"snapshotter {name}: this file system cannot bound a snapshot's size")
