"""Performing the spec's mounts: each target is pinned by an fd below the rootfs before anything is mounted on it.

Source: runtime-spec config.md, Mounts. Cases: CVE-2021-30465, CVE-2025-52881, CVE-2026-41579.
"""

from __future__ import annotations

import errno
import os
import stat

from rorqual.linux import mount as linux_mount
from rorqual.linux import paths
from rorqual.oci.runtime import Mount
from rorqual.record import record
from rorqual.runc.errors import Refusal, reason
from rorqual.runc.process import labels
from rorqual.runc.rootfs import cgroupfs, copyup
from rorqual.runc.rootfs.options import Options

# What lxcfs and the like may cover; everything else in /proc stays the kernel's.
_PROC_FILES = frozenset(
    "/proc/" + name
    for name in (
        "cpuinfo",
        "diskstats",
        "meminfo",
        "stat",
        "swaps",
        "uptime",
        "loadavg",
        "slabinfo",
        "sys/kernel/ns_last_pid",
        "sys/crypto/fips_enabled",
    )
)
# Those that have their labels from the kernel's policy, or no option for one.
_UNLABELLED = frozenset({"proc", "sysfs", "mqueue"})


@record
class Planned:
    """A mount with its options parsed. `tree`: the detached copy of its source, when it had to be made beforehand."""

    mount: Mount
    options: Options
    tree: int | None = None

    @property
    def is_bind(self) -> bool:
        return self.options.is_bind or self.mount.type == "bind"

    @property
    def read_only_later(self) -> bool:
        """A read-only tmpfs is writable until the end: mount points are made in it."""
        return self.mount.type == "tmpfs" and not self.is_bind and bool(self.options.flags & linux_mount.MS_RDONLY)


def perform(root_fd: int, planned: Planned, groups: cgroupfs.Groups, label: str = "") -> None:
    """`label`: SELinux's, of the files of a new file system. Raises: Refusal with the text that Docker's users know."""
    try:
        _perform(root_fd, planned, groups, label)
    except OSError as e:
        raise failed(planned, e) from e


def failed(planned: Planned, error: OSError) -> Refusal:
    m = planned.mount
    details = f"mount src={m.source}, dst={m.destination}, flags={planned.options.flags:#x}: {reason(error)}"
    return Refusal(f'error mounting "{m.source or m.type}" to rootfs at "{m.destination}": {details}')


def _perform(root_fd: int, planned: Planned, groups: cgroupfs.Groups, label: str) -> None:
    kind = planned.mount.type
    if planned.is_bind:
        _bind(root_fd, planned)
        return
    target = _plain_directory(root_fd, planned) if kind in ("proc", "sysfs") else _directory(root_fd, planned)
    try:
        if kind == "cgroup":
            cgroupfs.mount(target, planned.options, groups)
            return
        data = _data(planned, target)
        context = "" if kind in _UNLABELLED else label
        if kind == "tmpfs" and planned.options.copy_up:
            attributes = planned.options.attributes()[0] & ~linux_mount.MOUNT_ATTR_RDONLY
            copyup.mount_with_contents(target, attributes, data, context)
        else:
            source = planned.mount.source or kind
            linux_mount.mount_at(source, target, kind, _mount_flags(planned), labels.mount_data(data, context))
    finally:
        os.close(target)
    if kind == "mqueue" and label:
        _label_root(root_fd, planned.mount.destination, label)
    _change_mounted(root_fd, planned)


def _label_root(root_fd: int, destination: str, label: str) -> None:
    """Of a message queues' file system the namespace has one, mounted without options: its directory is labelled."""
    mounted = paths.open_in_root(root_fd, destination, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.setxattr(mounted, "security.selinux", label.encode() + b"\0")
    finally:
        os.close(mounted)


def _mount_flags(planned: Planned) -> int:
    cleared = linux_mount.MS_REC | (linux_mount.MS_RDONLY if planned.read_only_later else 0)
    return planned.options.flags & ~cleared


def _data(planned: Planned, target: int) -> str | None:
    parts = list(planned.options.data)
    if planned.mount.type == "tmpfs" and not any(part.startswith("mode=") for part in parts):
        parts.insert(0, f"mode={stat.S_IMODE(os.fstat(target).st_mode):04o}")  # what the image has there
    return ",".join(parts) or None


def _plain_directory(root_fd: int, planned: Planned) -> int:
    """proc and sysfs go only where no symlink leads: a process trusts what it finds there."""
    destination = "/".join(paths.components(planned.mount.destination))
    _refuse_in_proc("/" + destination, planned)
    try:
        os.close(paths.mkdir_all_in_root(root_fd, destination))
        return paths.open_beneath(root_fd, destination, os.O_PATH | os.O_DIRECTORY)
    except OSError as e:
        if e.errno in (errno.ELOOP, errno.ENOTDIR, errno.EXDEV):
            text = f'filesystem "{planned.mount.type}" must be mounted on ordinary directory'
            raise Refusal(f'error mounting "{planned.mount.source}" to rootfs at "/{destination}": {text}') from e
        raise


def _directory(root_fd: int, planned: Planned) -> int:
    target = paths.mkdir_all_in_root(root_fd, planned.mount.destination)
    _checked(root_fd, target, planned)
    return target


def _checked(root_fd: int, target: int, planned: Planned) -> None:
    """Refuse a target that is the rootfs itself or inside /proc, wherever symlinks have led to it."""
    try:
        root = os.readlink(f"/proc/self/fd/{root_fd}")
        real = os.readlink(f"/proc/self/fd/{target}")
        if real == root:
            raise Refusal(f'mountpoint "{planned.mount.destination}" is on the top of rootfs')
        if not real.startswith(root + "/"):
            raise Refusal(f'mountpoint "{planned.mount.destination}" is outside of rootfs')
        _refuse_in_proc(real[len(root) :], planned)
    except BaseException:
        os.close(target)
        raise


def _refuse_in_proc(inside: str, planned: Planned) -> None:
    if inside == "/proc":
        if planned.mount.type == "proc":
            return
        if planned.tree is not None and paths.filesystem_type(planned.tree) == paths.PROC_SUPER_MAGIC:
            return
        raise Refusal(f'"{inside}" cannot be mounted because it is not of type proc')
    if inside.startswith("/proc/") and inside not in _PROC_FILES:
        raise Refusal(f'"{inside}" cannot be mounted because it is inside /proc')


def clone_source(source: str, options: Options) -> int:
    """The detached tree that a bind mount will attach. Raises: OSError."""
    return linux_mount.clone_tree(source, recursive=bool(options.flags & linux_mount.MS_REC))


def _bind(root_fd: int, planned: Planned) -> None:
    tree = planned.tree if planned.tree is not None else clone_source(planned.mount.source, planned.options)
    planned = Planned(planned.mount, planned.options, tree)
    try:
        if stat.S_ISDIR(os.fstat(tree).st_mode):
            target = paths.mkdir_all_in_root(root_fd, planned.mount.destination)
        else:
            target = paths.create_in_root(root_fd, planned.mount.destination)
        _checked(root_fd, target, planned)
        try:
            _set_attributes(tree, planned.options)
            linux_mount.attach(tree, target)
        finally:
            os.close(target)
    finally:
        os.close(tree)


def _set_attributes(tree: int, options: Options) -> None:
    """Before it is attached: nobody ever sees the mount without them."""
    chosen, clear = options.attributes()
    if chosen or clear:
        linux_mount.set_attributes(tree, set_=chosen, clear=clear)
    _set_recursive_and_propagation(tree, options)


def _set_recursive_and_propagation(mounted: int, options: Options) -> None:
    if options.recursive_set or options.recursive_clear:
        linux_mount.set_attributes(mounted, set_=options.recursive_set, clear=options.recursive_clear, recursive=True)
    for flags in options.propagation:
        recursive = bool(flags & linux_mount.MS_REC)
        linux_mount.set_attributes(mounted, propagation=flags & ~linux_mount.MS_REC, recursive=recursive)


def _change_mounted(root_fd: int, planned: Planned) -> None:
    """What mount(2) can't set together with the file system."""
    options = planned.options
    if not (options.propagation or options.recursive_set or options.recursive_clear):
        return
    mounted = paths.open_in_root(root_fd, planned.mount.destination, os.O_PATH)
    try:
        _set_recursive_and_propagation(mounted, options)
    finally:
        os.close(mounted)
