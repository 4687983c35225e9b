"""overlayfs: a directory of its own for each layer, stacked by the kernel.

    <root>/<id>/fs      the snapshot's own files, whiteouts in overlayfs' form (upperdir, and lowerdir of its children)
    <root>/<id>/work    workdir, of active ones

A layer's directory doesn't depend on its parents: layers can be unpacked in any order and given their parent at commit.
The mount is the client's: 128 layers make a lowerdir longer than the page that mount(2) takes, so it goes through
fsconfig's lowerdir+ or relative paths there. Source: Documentation/filesystems/overlayfs.rst.

`--storage-opt size=` is a project quota on <root>/<id>, where the file system keeps them.
"""

from __future__ import annotations

import os
import stat

from rorqual.containerd.metadata.records import Kind, Labels, Pending
from rorqual.containerd.snapshotters.contract import Mount, quota_of
from rorqual.containerd.snapshotters.hardlinks import copy_linked
from rorqual.containerd.snapshotters.inherit import inherit_directories
from rorqual.errdefs import InvalidArgument
from rorqual.linux import projectquota, removal

# Docker's words
_NO_QUOTA = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"
VOLATILE_LABEL = "rorqual/volatile"  # no sync at unmount; for snapshots that need not survive power loss (run --rm)


class OverlayDriver:
    """Implements contract.Driver."""

    name = "overlayfs"

    def __init__(self, root: str) -> None:
        self.root = root
        self._base_options = ("index=off",) if _default_is_on("index") else ()

    def layer(self, snapshot_id: int) -> str:
        """See Driver."""
        return f"{self.root}/{snapshot_id}/fs"

    def create(self, snapshot_id: int, chain: list[int], kind: Kind, labels: Labels) -> None:
        """See Driver."""
        top = f"{self.root}/{snapshot_id}"
        os.mkdir(top, 0o700)
        if max_bytes := quota_of(labels):
            try:
                self._limit(snapshot_id, max_bytes)
            except BaseException:
                os.rmdir(top)
                raise
        upper = f"{top}/fs"
        os.mkdir(upper, 0o755)
        if kind is Kind.ACTIVE:
            os.mkdir(f"{top}/work", 0o711)
        if chain:
            # the merged root directory is the upper one's: it must look as the image's does
            parent = os.stat(self.layer(chain[0]))
            if parent.st_uid or parent.st_gid:
                os.chown(upper, parent.st_uid, parent.st_gid)
            mode = stat.S_IMODE(parent.st_mode)
            if mode != 0o755:
                os.chmod(upper, mode)

    def mounts(self, snapshot_id: int, chain: list[int], kind: Kind, labels: Labels) -> list[Mount]:
        """See Driver."""
        if not chain:
            access = "rw" if kind is Kind.ACTIVE else "ro"
            return [Mount("bind", self.layer(snapshot_id), (access, "rbind"))]
        if kind is Kind.VIEW and len(chain) == 1:
            return [Mount("bind", self.layer(chain[0]), ("ro", "rbind"))]
        options = list(self._base_options)
        if kind is Kind.ACTIVE:
            top = f"{self.root}/{snapshot_id}"
            options += [f"workdir={top}/work", f"upperdir={top}/fs"]
            if labels.get(VOLATILE_LABEL) == "true":
                _forget_volatile(top)
                options.append("volatile")
        options.append("lowerdir=" + ":".join(map(self.layer, chain)))
        return [Mount("overlay", "overlay", tuple(options))]

    def ensure(self, source: str) -> None:
        """Nothing: a directory is enough."""

    def stack(self, snapshot_id: int, chain: list[int], pending: Pending) -> None:
        """See Driver."""
        layer, parents = self.layer(snapshot_id), [self.layer(i) for i in chain]
        if pending.directories:
            inherit_directories(layer, parents, pending.directories)
        if pending.links:
            copy_linked(layer, parents, pending.links)

    def seal(self, snapshot_id: int) -> None:
        """Nothing: a directory is all there is."""

    def status(self) -> list[tuple[str, str]]:
        """Nothing."""
        return []

    def close(self) -> None:
        """Nothing."""

    def remove(self, snapshot_id: int) -> None:
        """See Driver."""
        top = f"{self.root}/{snapshot_id}"
        limited = self._project(snapshot_id) if _project_at(top) == self._project(snapshot_id) else 0
        removal.remove_tree(top)
        if limited:
            self._set_limit(self.root, limited, 0)

    def _project(self, snapshot_id: int) -> int:
        return projectquota.project_below(os.stat(self.root).st_ino, snapshot_id)

    def _limit(self, snapshot_id: int, max_bytes: int) -> None:
        """Before anything is in it: upperdir and workdir take the project over. Raises InvalidArgument."""
        project = self._project(snapshot_id)
        try:
            self._set_limit(f"{self.root}/{snapshot_id}", project, max_bytes)
        except OSError as e:
            if projectquota.is_missing(e):
                raise InvalidArgument(_NO_QUOTA) from e
            raise

    def _set_limit(self, directory: str, project: int, max_bytes: int) -> None:
        fd = projectquota.open_directory(directory)
        try:
            projectquota.limit(fd, project, max_bytes)
            if max_bytes:
                projectquota.assign(fd, project)
        finally:
            os.close(fd)


def _project_at(directory: str) -> int:
    """0 too where the file system has no projects."""
    fd = projectquota.open_directory(directory)
    try:
        return projectquota.project_of(fd)
    except OSError:
        return 0
    finally:
        os.close(fd)


def _forget_volatile(top: str) -> None:
    """The kernel's mark of an earlier volatile mount refuses the next one; the caller has chosen to go on."""
    try:
        os.rmdir(f"{top}/work/work/incompat/volatile")
        os.rmdir(f"{top}/work/work/incompat")
    except OSError:
        return  # no such mark


def _default_is_on(parameter: str) -> bool:
    """Of the overlay module; off too when the kernel doesn't say."""
    try:
        with open(f"/sys/module/overlay/parameters/{parameter}") as file:
            return file.read(1) == "Y"
    except OSError:
        return False
