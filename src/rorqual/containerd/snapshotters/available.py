"""Which snapshotters this machine has, and why not the others. Their order is that of preference.

overlayfs       mounted once to see (not on an overlay, not without the kernel's)
fuse-overlayfs  the program and /dev/fuse
btrfs           <root>/btrfs on btrfs
native          always
devmapper, zfs, aufs   refused: what they need of the kernel is not there, or there is no code for it yet
"""

from __future__ import annotations

import os
from collections.abc import Callable

from rorqual.containerd.snapshotters import fuse_overlayfs
from rorqual.containerd.snapshotters.btrfs import BtrfsDriver
from rorqual.containerd.snapshotters.contract import Driver
from rorqual.containerd.snapshotters.fuse_overlayfs import FuseOverlayDriver
from rorqual.containerd.snapshotters.native import NativeDriver
from rorqual.containerd.snapshotters.overlayfs import OverlayDriver
from rorqual.linux import overlay, paths
from rorqual.linux.btrfs import BTRFS_SUPER_MAGIC


def available(root: str) -> tuple[list[Driver], dict[str, str]]:
    """The drivers that work below `root`, each in a directory of its own, and the reason for each other name."""
    drivers: list[Driver] = []
    refused = {
        "devmapper": _without("/dev/mapper/control", "the kernel has no device mapper"),
        "zfs": _without("/dev/zfs", "the kernel has no ZFS"),
        "aufs": "" if _filesystem("aufs") else "the kernel has no aufs",
    }
    refused = {name: why or "not supported by this version" for name, why in refused.items()}
    kinds: tuple[tuple[Callable[[str], Driver], str, Callable[[str], str]], ...] = (
        (OverlayDriver, OverlayDriver.name, overlay.missing),
        (FuseOverlayDriver, FuseOverlayDriver.name, lambda _root: fuse_overlayfs.missing()),
        (BtrfsDriver, BtrfsDriver.name, _not_on_btrfs),
        (NativeDriver, NativeDriver.name, lambda _root: ""),
    )
    for make, name, missing in kinds:
        directory = f"{root}/{name}"
        os.makedirs(directory, mode=0o711, exist_ok=True)
        if why := missing(directory):
            refused[name] = why
        else:
            drivers.append(make(directory))
    return drivers, refused


def _not_on_btrfs(root: str) -> str:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return "" if paths.filesystem_type(fd) == BTRFS_SUPER_MAGIC else f"{root} is not on a btrfs file system"
    finally:
        os.close(fd)


def _without(device: str, why: str) -> str:
    return "" if os.path.exists(device) else why


def _filesystem(name: str) -> bool:
    with open("/proc/filesystems") as file:
        return name in file.read().split()
