"""fuse-overlayfs: overlayfs' layout and whiteouts, merged by a program: for kernels and file systems without overlayfs.

    <root>/<id>/fs, work    as overlayfs
    <root>/<id>/merged      where fuse-overlayfs is mounted, from the first time that the mounts are asked for

What clients get is a bind mount of `merged`. The program outlives containerd, as containers do; removal unmounts it,
and after a reboot the next use mounts it again (`ensure`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading

from rorqual.containerd.metadata.records import Kind, Labels, Pending
from rorqual.containerd.snapshotters.contract import Mount, refuse_quota
from rorqual.containerd.snapshotters.overlayfs import OverlayDriver
from rorqual.errdefs import Internal
from rorqual.linux import mount

PROGRAM = "fuse-overlayfs"


class FuseOverlayDriver:
    """Implements contract.Driver."""

    name = "fuse-overlayfs"

    def __init__(self, root: str) -> None:
        self.root = root
        self._overlay = OverlayDriver(root)
        self._lock = threading.Lock()

    def layer(self, snapshot_id: int) -> str:
        """See Driver."""
        return self._overlay.layer(snapshot_id)

    def create(self, snapshot_id: int, chain: list[int], kind: Kind, labels: Labels) -> None:
        """See Driver."""
        refuse_quota(self.name, labels)
        self._overlay.create(snapshot_id, chain, kind, {})

    def mounts(self, snapshot_id: int, chain: list[int], kind: Kind, labels: Labels) -> list[Mount]:
        """See Driver."""
        (wanted,) = self._overlay.mounts(snapshot_id, chain, kind, {})
        if wanted.type == "bind":
            return [wanted]
        top = f"{self.root}/{snapshot_id}"
        options = [o for o in wanted.options if o.startswith(("lowerdir=", "upperdir=", "workdir="))]
        with self._lock:
            _write(f"{top}/options", ",".join(options))
            self._mount(top)
        return [Mount("bind", f"{top}/merged", ("rw" if kind is Kind.ACTIVE else "ro", "rbind"))]

    def ensure(self, source: str) -> None:
        """See Driver: the merged directory, mounted again."""
        top, name = os.path.split(source)
        if name == "merged" and os.path.dirname(top) == self.root:
            with self._lock:
                self._mount(top)

    def stack(self, snapshot_id: int, chain: list[int], pending: Pending) -> None:
        """See Driver."""
        self._overlay.stack(snapshot_id, chain, pending)

    def seal(self, snapshot_id: int) -> None:
        """Nothing: what is mounted goes with the snapshot."""

    def status(self) -> list[tuple[str, str]]:
        """Nothing."""
        return []

    def close(self) -> None:
        """Nothing."""

    def remove(self, snapshot_id: int) -> None:
        """See Driver."""
        merged = f"{self.root}/{snapshot_id}/merged"
        with self._lock:
            if os.path.exists(merged):
                try:
                    mount.umount(merged, mount.MNT_DETACH)
                except OSError:
                    if os.path.ismount(merged):
                        raise
        self._overlay.remove(snapshot_id)

    def _mount(self, top: str) -> None:
        merged = f"{top}/merged"
        try:
            os.mkdir(merged, 0o755)
        except FileExistsError:
            if os.path.ismount(merged):
                return
        except OSError:
            mount.umount(merged, mount.MNT_DETACH)  # ENOTCONN: its program was killed
        with open(f"{top}/options") as file:
            command = [PROGRAM, "-o", file.read(), merged]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise Internal(f"{PROGRAM}: {done.stderr.strip() or done.returncode}")


def missing() -> str:
    """Why it cannot be used here; "" when it can."""
    if not shutil.which(PROGRAM):
        return f"the program {PROGRAM} is not installed"
    if not os.path.exists("/dev/fuse"):
        return "/dev/fuse is not there: the kernel has no FUSE"
    return ""


def _write(path: str, text: str) -> None:
    with open(f"{path}.new", "w") as file:
        file.write(text)
    os.rename(f"{path}.new", path)
