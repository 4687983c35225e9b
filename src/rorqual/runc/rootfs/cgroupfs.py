"""The container's view of its control groups at /sys/fs/cgroup.

v1: a tmpfs with a directory for each hierarchy: its own group bound there, or in a cgroup namespace the hierarchy
mounted afresh (whose root the namespace makes the container's group). v2: cgroup2 mounted, or its own group bound.
"""

from __future__ import annotations

import os

from rorqual.linux import mount as linux_mount
from rorqual.record import record
from rorqual.runc.rootfs.options import Options

_DEFAULT_FLAGS = linux_mount.MS_NOSUID | linux_mount.MS_NODEV | linux_mount.MS_NOEXEC


@record
class Groups:
    """`sources`: v1 hierarchy's directory name -> this container's group. `fresh`: name -> option that mounts it anew,
    given in a cgroup namespace of the container's own. `unified`: the group's directory on pure cgroup v2."""

    sources: dict[str, str]
    fresh: dict[str, str]
    unified: str = ""


def mount(target_fd: int, options: Options, groups: Groups) -> None:
    if groups.unified:
        _mount_unified(target_fd, options, groups.unified)
        return
    flags = _DEFAULT_FLAGS | options.flags & ~linux_mount.MS_RDONLY
    tree = linux_mount.new_filesystem("tmpfs", (("mode", "755"),), _attributes(options, read_only=False))
    try:
        linux_mount.attach(tree, target_fd)  # first: older kernels mount nothing on what is detached
        for name in groups.sources:
            _mount_hierarchy(tree, name, flags | options.flags & linux_mount.MS_RDONLY, options, groups)
        if options.flags & linux_mount.MS_RDONLY:
            linux_mount.set_attributes(tree, set_=linux_mount.MOUNT_ATTR_RDONLY)
    finally:
        os.close(tree)


def _mount_hierarchy(tree: int, name: str, flags: int, options: Options, groups: Groups) -> None:
    os.mkdir(name, 0o755, dir_fd=tree)
    if "," in name:  # cpu,cpuacct: each by its own name too
        for controller in name.split(","):
            os.symlink(name, controller, dir_fd=tree)
    directory = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=tree)
    try:
        if name in groups.fresh:
            linux_mount.mount_at("cgroup", directory, "cgroup", flags, groups.fresh[name])
            return
        source = linux_mount.clone_tree(groups.sources[name], recursive=True)
        try:
            linux_mount.set_attributes(source, set_=_attributes(options, read_only=True))
            linux_mount.attach(source, directory)
        finally:
            os.close(source)
    finally:
        os.close(directory)


def _attributes(options: Options, *, read_only: bool) -> int:
    chosen = linux_mount.MOUNT_ATTR_NOSUID | linux_mount.MOUNT_ATTR_NODEV | linux_mount.MOUNT_ATTR_NOEXEC
    if read_only and options.flags & linux_mount.MS_RDONLY:
        chosen |= linux_mount.MOUNT_ATTR_RDONLY
    return chosen


def _mount_unified(target_fd: int, options: Options, directory: str) -> None:
    try:
        linux_mount.mount_at("cgroup", target_fd, "cgroup2", options.flags, ",".join(options.data) or None)
    except OSError as e:
        if e.errno not in (1, 16):  # EPERM, EBUSY: a user namespace that doesn't own the cgroup namespace
            raise
        tree = linux_mount.clone_tree(directory, recursive=True)
        try:
            linux_mount.set_attributes(tree, set_=options.attributes()[0])
            linux_mount.attach(tree, target_fd)
        finally:
            os.close(tree)
