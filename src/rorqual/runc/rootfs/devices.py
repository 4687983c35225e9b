"""Device nodes, /dev's symlinks and the terminal's /dev/console, all made by fd below the pinned /dev.

Source: runtime-spec config-linux.md, Devices and Default Devices. Cases: CVE-2025-52565, CVE-2026-41579.
"""

from __future__ import annotations

import errno
import os
import stat

from rorqual.errdefs import InvalidArgument
from rorqual.linux import mount as linux_mount
from rorqual.linux import paths, pty
from rorqual.oci.runtime import Device
from rorqual.record import record
from rorqual.runc.errors import Refusal, reason

DEFAULT_DEVICES: tuple[Device, ...] = (
    Device("/dev/null", "c", 1, 3, 0o666, 0, 0),
    Device("/dev/zero", "c", 1, 5, 0o666, 0, 0),
    Device("/dev/full", "c", 1, 7, 0o666, 0, 0),
    Device("/dev/random", "c", 1, 8, 0o666, 0, 0),
    Device("/dev/urandom", "c", 1, 9, 0o666, 0, 0),
    Device("/dev/tty", "c", 5, 0, 0o666, 0, 0),
)

_LINKS = (
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
)

_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


@record
class Node:
    """A node to make: `mode` with its type, `bind`: the host's node is bound (no mknod in a user namespace)."""

    path: str
    mode: int
    device: int
    uid: int
    gid: int


def planned(devices: tuple[Device, ...]) -> list[Node]:
    """The spec's devices after the defaults that they don't replace. Raises: InvalidArgument of an unknown type."""
    by_path = {"/" + "/".join(paths.components(d.path)): d for d in (*DEFAULT_DEVICES, *devices)}
    by_path.pop("/dev/ptmx", None)  # always the container's own instance, see make()
    nodes = []
    for path, device in by_path.items():
        kind = _KINDS.get(device.type)
        if kind is None:
            raise InvalidArgument(
                f"invalid config: linux.devices: {device.type!r} is not a valid type for device {device.path!r}"
            )
        mode = 0o666 if device.file_mode is None else stat.S_IMODE(device.file_mode)
        number = 0 if device.type == "p" else os.makedev(device.major, device.minor)
        nodes.append(Node(path, kind | mode, number, device.uid or 0, device.gid or 0))
    return nodes


def make(root_fd: int, nodes: list[Node], *, bind: bool) -> None:
    """Nodes and symlinks of /dev, which must be a directory and not a symlink."""
    try:
        os.close(paths.mkdir_all_in_root(root_fd, "dev"))
        dev_fd = paths.open_beneath(root_fd, "dev", os.O_PATH | os.O_DIRECTORY)
    except OSError as e:
        raise Refusal(f"configuring container /dev: {reason(e)}") from e
    try:
        for node in nodes:
            _make_node(root_fd, dev_fd, node, bind)
        for target, name in _LINKS:
            try:
                os.symlink(target, name, dir_fd=dev_fd)
            except FileExistsError:
                pass  # the image's or the user's own
        _make_ptmx(dev_fd)
    finally:
        os.close(dev_fd)


def _make_ptmx(dev_fd: int) -> None:
    try:
        os.unlink("ptmx", dir_fd=dev_fd)
    except FileNotFoundError:
        pass
    try:
        os.symlink("pts/ptmx", "ptmx", dir_fd=dev_fd)
    except FileExistsError:
        # another container on the same rootfs was quicker, with the same link
        if os.readlink("ptmx", dir_fd=dev_fd) != "pts/ptmx":
            raise


def _make_node(root_fd: int, dev_fd: int, node: Node, bind: bool) -> None:
    name = node.path.removeprefix("/dev/")
    if "/" not in name:
        parent, close = dev_fd, False
    else:
        (parent, name), close = paths.open_parent_in_root(root_fd, node.path), True
    try:
        if bind:
            _bind_node(parent, name, node)
        else:
            _mknod(parent, name, node)
    except OSError as e:
        raise Refusal(f"error creating device node {node.path}: {reason(e)}") from e
    finally:
        if close:
            os.close(parent)


def _mknod(parent: int, name: str, node: Node) -> None:
    """The caller's umask is 0. What is found there afterwards is checked: it must be this very device."""
    try:
        os.mknod(name, node.mode, node.device, dir_fd=parent)
    except FileExistsError:
        return  # the image's own node (or file): as it is
    except PermissionError:
        _bind_node(parent, name, node)
        return
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if stat.S_IFMT(status.st_mode) != stat.S_IFMT(node.mode) or status.st_rdev != node.device:
        raise Refusal(f"error creating device node {node.path}: it was replaced while being made")
    if node.uid or node.gid:
        os.chown(name, node.uid, node.gid, dir_fd=parent, follow_symlinks=False)


def _bind_node(parent: int, name: str, node: Node) -> None:
    try:
        os.close(os.open(name, os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_WRONLY, 0, dir_fd=parent))
    except OSError as e:
        if e.errno not in (errno.ELOOP, errno.EEXIST):
            raise
        raise Refusal(f"error creating device node {node.path}: {reason(e)}") from e
    target = paths.open_beneath(parent, name, os.O_PATH)
    try:
        linux_mount.bind_at(node.path, target, recursive=False)
    finally:
        os.close(target)


def open_console(root_fd: int, size: tuple[int, int] | None, *, bind: bool) -> tuple[int, int]:
    """A (master, slave) of the container's own devpts; with `bind` the slave is bound on /dev/console too."""
    try:
        pts = paths.open_in_root(root_fd, "dev/pts", os.O_RDONLY | os.O_DIRECTORY)
        try:
            if paths.filesystem_type(pts) != paths.DEVPTS_SUPER_MAGIC:
                raise Refusal("a terminal needs devpts mounted at /dev/pts")
            master, slave = pty.open_pair(pts)
        finally:
            os.close(pts)
        if size is not None:
            pty.set_size(slave, *size)
        if bind:
            _bind_console(root_fd, slave)
    except OSError as e:
        raise Refusal(f"setting up the container's console: {reason(e)}") from e
    return master, slave


def _bind_console(root_fd: int, slave: int) -> None:
    dev_fd = paths.open_beneath(root_fd, "dev", os.O_PATH | os.O_DIRECTORY)
    try:
        flags = os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
        try:
            os.close(os.open("console", flags, 0o666, dir_fd=dev_fd))
        except OSError as e:
            if e.errno not in (errno.ENXIO, errno.EIO, errno.EPERM, errno.EACCES):
                raise  # ELOOP: a symlink; the others: an existing device node, which is covered below
        target = paths.open_beneath(dev_fd, "console", os.O_PATH | os.O_NOFOLLOW)
        try:
            tree = linux_mount.clone_tree_of(slave, recursive=False)
            try:
                linux_mount.attach(tree, target)
            finally:
                os.close(tree)
        finally:
            os.close(target)
    finally:
        os.close(dev_fd)
