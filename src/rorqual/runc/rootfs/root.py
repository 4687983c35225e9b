"""The root itself: mounting it, and entering it by pivot_root."""

from __future__ import annotations

import os

from rorqual.linux import mount as linux_mount
from rorqual.linux import namespaces, paths, process
from rorqual.record import record
from rorqual.runc.errors import Refusal, reason
from rorqual.runc.rootfs import options as mount_options

_DATA_MAX = 4000  # mount(2) copies a page of data, less a little


@record
class RootMount:
    """One of the mounts that make up the rootfs (containerd's Mount): an overlay, or a bind of a directory."""

    type: str
    source: str
    options: tuple[str, ...] = ()


def isolate(propagation: int) -> None:
    """Nothing that is mounted here from now on propagates to the host. Without `propagation`, the host's mounts still
    come in (slave), as binds with `rslave` expect."""
    kind = linux_mount.MS_PRIVATE if propagation & linux_mount.MS_PRIVATE else linux_mount.MS_SLAVE
    linux_mount.set_propagation("/", kind | linux_mount.MS_REC)


def mount(path: str, mounts: tuple[RootMount, ...]) -> int:
    """Make `path` the root of a mount of its own: an O_PATH fd of it. Raises: Refusal."""
    try:
        for root_mount in mounts:
            _mount_one(path, root_mount)
        if not mounts:
            directory = paths.open_root(path)
            try:
                linux_mount.bind_at(directory, directory, recursive=True)
            finally:
                os.close(directory)
        return paths.open_root(path)
    except OSError as e:
        raise Refusal(f"error preparing rootfs {path}: {reason(e)}") from e


def detached(path: str, mounts: tuple[RootMount, ...]) -> int:
    """The root as a mount that is nowhere, for a container with a user namespace.

    Whoever is in it can neither mount what only the host's root may, nor pass directories that are closed to others, as
    the engine's state is. Raises: Refusal.
    """
    try:
        if not mounts:
            return linux_mount.clone_tree(path, recursive=True)
        return _detached_by_child(path, mounts)
    except OSError as e:
        raise Refusal(f"error preparing rootfs {path}: {reason(e)}") from e


def _detached_by_child(path: str, mounts: tuple[RootMount, ...]) -> int:
    """In a mount namespace of a child's own, which the host never sees; its fds are this process's too."""
    read, write = os.pipe2(os.O_CLOEXEC)
    pid = process.clone(process.CLONE_FILES)
    if pid == 0:
        try:
            namespaces.unshare(namespaces.CLONE_NEWNS)
            isolate(linux_mount.MS_PRIVATE)
            os.close(mount(path, mounts))
            os.write(write, b"%d" % linux_mount.clone_tree(path, recursive=True))
        except (OSError, Refusal) as e:
            os.write(write, os.fsencode(reason(e) if isinstance(e, OSError) else str(e)))
        finally:
            os._exit(0)
    try:
        os.waitpid(pid, 0)
        os.set_blocking(read, False)
        said = os.read(read, 4096)
    except BlockingIOError:
        said = b"the process that mounts it ended"
    finally:
        os.close(read)
        os.close(write)
    if not said.isdigit():
        raise Refusal(said.decode(errors="replace"))
    return int(said)


def attach(tree: int, path: str) -> tuple[int, str]:
    """Put the detached root where `path` is, or on the directory above that is closed to this process.

    An O_PATH fd of it, and where it is. `tree` is closed. Raises: Refusal.
    """
    try:
        target, where = _nearest(path)
        try:
            linux_mount.attach(tree, target)
        finally:
            os.close(target)
            os.close(tree)
        return paths.open_root(where), where
    except OSError as e:
        raise Refusal(f"error preparing rootfs {path}: {reason(e)}") from e


def _nearest(path: str) -> tuple[int, str]:
    while True:
        try:
            return paths.open_root(path), path
        except PermissionError:
            if path == "/":
                raise
            path = os.path.dirname(path)


def _mount_one(path: str, root_mount: RootMount) -> None:
    parsed = mount_options.parse(root_mount.options)
    if root_mount.type == "bind" or parsed.is_bind:
        tree = linux_mount.clone_tree(root_mount.source, recursive=bool(parsed.flags & linux_mount.MS_REC))
        try:
            chosen, clear = parsed.attributes()
            if chosen or clear:
                linux_mount.set_attributes(tree, set_=chosen, clear=clear)
            directory = paths.open_root(path)
            try:
                linux_mount.attach(tree, directory)
            finally:
                os.close(directory)
        finally:
            os.close(tree)
        return
    data = ",".join(parsed.data)
    if root_mount.type == "overlay" and len(data) > _DATA_MAX:
        _mount_long_overlay(path, root_mount.source, parsed)
        return
    linux_mount.mount(root_mount.source or root_mount.type, path, root_mount.type, parsed.flags, data or None)


def _mount_long_overlay(path: str, source: str, parsed: mount_options.Options) -> None:
    """Up to 128 layers: from the directory that all of them share, their names fit into the page."""
    keys = {"lowerdir", "upperdir", "workdir"}
    pairs = [option.partition("=") for option in parsed.data]
    directories = [d for key, _, value in pairs if key in keys for d in value.split(":")]
    common = os.path.commonpath(directories)
    short = ",".join(
        f"{key}={':'.join(os.path.relpath(d, common) for d in value.split(':'))}" if key in keys else key + eq + value
        for key, eq, value in pairs
    )
    if len(short) > _DATA_MAX:
        _mount_overlay_by_layers(path, parsed)
        return
    os.chdir(common)
    linux_mount.mount(source or "overlay", path, "overlay", parsed.flags, short)
    os.chdir("/")


def _mount_overlay_by_layers(path: str, parsed: mount_options.Options) -> None:
    """One call a layer (Linux 6.5): names too long for any page."""
    settings: list[tuple[str, str | None]] = []
    for option in parsed.data:
        key, separator, value = option.partition("=")
        if key == "lowerdir":
            settings += [("lowerdir+", directory) for directory in value.split(":")]
        else:
            settings.append((key, value if separator else None))
    directory = paths.open_root(path)
    try:
        tree = linux_mount.new_filesystem("overlay", tuple(settings), parsed.attributes()[0])
        try:
            linux_mount.attach(tree, directory)
        finally:
            os.close(tree)
    finally:
        os.close(directory)


def set_read_only(root_fd: int) -> None:
    linux_mount.set_attributes(root_fd, set_=linux_mount.MOUNT_ATTR_RDONLY)


def pivot(root_fd: int) -> None:
    """Enter the rootfs and drop the host's tree. Afterwards the working directory is the new root."""
    try:
        os.fchdir(root_fd)
        old_root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            linux_mount.pivot_root_here()
            os.fchdir(old_root)
        finally:
            os.close(old_root)
        # Slave, not private: unmounting must not reach the host, and a private mount would keep others' mounts busy.
        linux_mount.set_propagation(".", linux_mount.MS_SLAVE | linux_mount.MS_REC)
        linux_mount.umount(".", linux_mount.MNT_DETACH)
        os.chdir("/")
    except OSError as e:
        raise Refusal(f"error jailing process inside rootfs: pivot_root .: {reason(e)}") from e


def move(root_fd: int, path: str) -> None:
    """--no-pivot: on the initial ramdisk pivot_root can't work. Host mounts of proc and sysfs are taken away first: a
    container could otherwise mount such a file system without what masks it (as runc)."""
    try:
        for target in _full_mounts(path):
            linux_mount.set_propagation(target, linux_mount.MS_SLAVE | linux_mount.MS_REC)
            try:
                linux_mount.umount(target, linux_mount.MNT_DETACH)
            except PermissionError:
                linux_mount.mount("tmpfs", target, "tmpfs", 0)
        os.fchdir(root_fd)
        linux_mount.mount(path, "/", None, linux_mount.MS_MOVE)
        os.chroot(".")
        os.chdir("/")
    except OSError as e:
        raise Refusal(f"error jailing process inside rootfs: {reason(e)}") from e


def _full_mounts(root: str) -> list[str]:
    """Where whole proc and sysfs file systems are mounted outside of the rootfs, the deepest first."""
    found = []
    with open("/proc/self/mountinfo", "rb") as f:
        for line in f.read().decode("utf-8", "surrogateescape").splitlines():
            mount_part, _, filesystem = line.partition(" - ")
            fields = mount_part.split(" ")
            if fields[3] == "/" and filesystem.split(" ")[0] in ("proc", "sysfs"):
                found.append(fields[4])
    return [target for target in reversed(found) if not target.startswith(root)]


def chroot(root_fd: int) -> None:
    """Without a mount namespace of its own the container has no more than this (as runc)."""
    try:
        os.fchdir(root_fd)
        os.chroot(".")
        os.chdir("/")
    except OSError as e:
        raise Refusal(f"error jailing process inside rootfs: chroot: {reason(e)}") from e


def set_root_propagation(propagation: int) -> None:
    """Once inside: shared, slave or unbindable as the spec asked."""
    if propagation & (linux_mount.MS_SHARED | linux_mount.MS_UNBINDABLE):
        linux_mount.set_propagation("/", propagation)
