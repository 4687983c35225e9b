"""Which snapshotters this machine has, and why not the others. Their order is that of preference.

overlayfs       mounted once to see (not on an overlay, not without the kernel's)
fuse-overlayfs  the program and /dev/fuse
btrfs           <root>/btrfs on btrfs
native          always
devmapper       the kernel's device mapper, and that it is asked for: it takes a pool into possession
zfs, aufs       refused: no kernel has them as it comes, and there is no code for them
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from rorqual.containerd.snapshotters import fuse_overlayfs
from rorqual.containerd.snapshotters.btrfs import BtrfsDriver
from rorqual.containerd.snapshotters.contract import Driver
from rorqual.containerd.snapshotters.fuse_overlayfs import FuseOverlayDriver
from rorqual.containerd.snapshotters.native import NativeDriver
from rorqual.containerd.snapshotters.overlayfs import OverlayDriver
from rorqual.errdefs import Error
from rorqual.linux import dm, overlay, paths, topdir
from rorqual.linux.btrfs import BTRFS_SUPER_MAGIC

DEVMAPPER = "devmapper"


def available(root: str, wanted: str = "", options: Sequence[str] = ()) -> tuple[list[Driver], dict[str, str]]:
    """The drivers that work below `root`, each in a directory of its own, and the reason for each other name.

    `wanted` is the daemon's choice and `options` are its storage options, "name=value" each.
    """
    drivers: list[Driver] = []
    refused = {
        "zfs": "the kernel has no ZFS" if not os.path.exists("/dev/zfs") else "not supported by this version",
        "aufs": "not supported by this version" if _filesystem("aufs") else "the kernel has no aufs",
    }
    kinds: tuple[tuple[Callable[[str], Driver], str, Callable[[str], str]], ...] = (
        (OverlayDriver, OverlayDriver.name, overlay.missing),
        (FuseOverlayDriver, FuseOverlayDriver.name, lambda _root: fuse_overlayfs.missing()),
        (BtrfsDriver, BtrfsDriver.name, _not_on_btrfs),
        (NativeDriver, NativeDriver.name, lambda _root: ""),
    )
    for make, name, missing in kinds:
        directory = f"{root}/{name}"
        os.makedirs(directory, mode=0o711, exist_ok=True)
        topdir.spread(directory)
        if why := missing(directory):
            refused[name] = why
        else:
            drivers.append(make(directory))
    if why := _without_device_mapper(wanted):
        refused[DEVMAPPER] = why
    else:
        try:
            drivers.append(_devmapper(f"{root}/{DEVMAPPER}", options))
        except (Error, OSError) as e:
            refused[DEVMAPPER] = str(e).removeprefix("devmapper: ")
    return drivers, refused


def _devmapper(root: str, options: Sequence[str]) -> Driver:
    from rorqual.containerd.snapshotters import dmoptions  # for who uses it
    from rorqual.containerd.snapshotters.devmapper import DevmapperDriver

    os.makedirs(root, mode=0o711, exist_ok=True)
    return DevmapperDriver(root, dmoptions.parse([o for o in options if o.startswith("dm.")]))


def _without_device_mapper(wanted: str) -> str:
    try:
        os.close(os.open(dm.CONTROL, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return "the kernel has no device mapper"
    return "" if wanted == DEVMAPPER else "it is not the storage driver that was asked for"


def _not_on_btrfs(root: str) -> str:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return "" if paths.filesystem_type(fd) == BTRFS_SUPER_MAGIC else f"{root} is not on a btrfs file system"
    finally:
        os.close(fd)


def _filesystem(name: str) -> bool:
    with open("/proc/filesystems") as file:
        return name in file.read().split()
