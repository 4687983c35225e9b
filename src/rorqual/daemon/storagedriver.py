"""Which storage driver a daemon uses that was told none: the first that works, or the one that has its images already.

overlayfs -> fuse-overlayfs -> vfs        (moby's order; btrfs is for who asks for it)
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from rorqual.linux import overlay

log = logging.getLogger(__name__)

DEFAULT = "overlayfs"
_FUSE, _COPIES = "fuse-overlayfs", "vfs"
_DIRECTORIES = {"btrfs": "btrfs", _FUSE: _FUSE, _COPIES: "native"}


def choose(data_root: Path) -> str:
    """Docker's name of it."""
    why = _no_overlayfs(data_root)
    if not why:
        return DEFAULT
    for name, directory in _DIRECTORIES.items():
        if _has_snapshots(data_root / "snapshots" / directory):
            return name
    chosen = _FUSE if shutil.which("fuse-overlayfs") and os.path.exists("/dev/fuse") else _COPIES
    log.warning("%s: using the storage driver %s, which is slower", why, chosen)
    return chosen


def _no_overlayfs(data_root: Path) -> str:
    os.makedirs(data_root, 0o700, exist_ok=True)
    where = data_root / "snapshots" / "overlayfs"
    where.mkdir(mode=0o711, parents=True, exist_ok=True)
    return overlay.missing(str(where))


def _has_snapshots(directory: Path) -> bool:
    try:
        return any(name.isdigit() for name in os.listdir(directory))
    except FileNotFoundError:
        return False
