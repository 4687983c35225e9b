"""The child's work on its file system, in order: root, mounts, /dev, terminal, sysctls, masks, user lookup, pivot."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable

from rorqual.linux import mount as linux_mount
from rorqual.linux import namespaces, paths, process
from rorqual.record import record, replace
from rorqual.runc.errors import Refusal, reason
from rorqual.runc.process import identity, users
from rorqual.runc.process.plan import InitPlan, ProcessPlan, RootfsPlan
from rorqual.runc.rootfs import devices, masks, mounts, root

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
else:
    import _socket as socket

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


@record
class Prepared:
    """`master` and `slave` are the terminal's, when there is one."""

    identity: users.Identity
    master: int | None
    slave: int | None


def build(plan: InitPlan, hooks: Callable[[], None]) -> Prepared:
    """Make the container's world and enter it; `hooks` is called when all is mounted and the host's tree still there.

    Raises: Refusal.
    """
    rootfs = plan.rootfs
    if rootfs.own_mounts:
        shared = [_clone_if_shared(entry) for entry in rootfs.entries]
        root.isolate(rootfs.propagation)
        rootfs = replace(rootfs, entries=tuple(shared))
    _name_host(plan)
    if plan.network_is_new:
        _loopback_up()
    root_fd, where = _mount_root(rootfs)
    for entry in rootfs.entries:
        mounts.perform(root_fd, entry, rootfs.groups, rootfs.mount_label)
    if rootfs.make_dev:
        devices.make(root_fd, list(rootfs.nodes), bind=rootfs.bind_nodes)
    hooks()
    master, slave = open_terminal(root_fd, plan.process, bind_console=rootfs.make_dev)
    for name, value in plan.sysctl.items():
        _write_sysctl(name, value)
    if plan.process.oom_score_adj is not None and not plan.new_user_namespace:
        identity.write_oom_score(plan.process.oom_score_adj, plan.warnings)
    who = users.resolve(root_fd, plan.process.user, want_home=b"HOME" not in plan.process.environment)
    masks.make_read_only(root_fd, rootfs.made_read_only)
    masks.mask(root_fd, rootfs.masked, rootfs.mount_label)
    _enter(plan, root_fd, where)
    return Prepared(who, master, slave)


def _clone_if_shared(entry: mounts.Planned) -> mounts.Planned:
    """A bind that shall stay in its source's peer group is copied while the source still is in it."""
    wanted = any(flags & linux_mount.MS_SHARED for flags in entry.options.propagation)
    if not wanted or not entry.is_bind or entry.tree is not None:
        return entry
    try:
        if not linux_mount.is_shared(entry.mount.source):
            return entry  # no group to stay in, and mounts made in the spec's order are listed in it
        return replace(entry, tree=mounts.clone_source(entry.mount.source, entry.options))
    except OSError as e:
        raise mounts.failed(entry, e) from e


def _mount_root(rootfs: RootfsPlan) -> tuple[int, str]:
    """An O_PATH fd of the root, and where it is."""
    if rootfs.tree is not None:
        return root.attach(rootfs.tree, rootfs.path)
    if rootfs.own_mounts:
        return root.mount(rootfs.path, rootfs.mounts), rootfs.path
    return paths.open_root(rootfs.path), rootfs.path


def _enter(plan: InitPlan, root_fd: int, where: str) -> None:
    rootfs = plan.rootfs
    if rootfs.own_mounts:
        if rootfs.no_pivot:
            root.move(root_fd, where)
        else:
            root.pivot(root_fd)
        root.set_root_propagation(rootfs.propagation)
    else:
        root.chroot(root_fd)
    os.close(root_fd)
    inside = paths.open_root("/")
    try:
        if plan.process.cwd != "/":
            identity.make_cwd(inside, plan.process.cwd)
        for destination in rootfs.read_only_later:
            _make_read_only(inside, destination)
        if rootfs.read_only and rootfs.own_mounts:
            root.set_read_only(inside)
    finally:
        os.close(inside)


def _make_read_only(root_fd: int, destination: str) -> None:
    fd = paths.open_in_root(root_fd, destination, os.O_PATH)
    try:
        linux_mount.set_attributes(fd, set_=linux_mount.MOUNT_ATTR_RDONLY)
    finally:
        os.close(fd)


def open_terminal(root_fd: int, plan: ProcessPlan, *, bind_console: bool) -> tuple[int | None, int | None]:
    if not plan.terminal:
        return None, None
    return devices.open_console(root_fd, plan.console_size, bind=bind_console)


def _name_host(plan: InitPlan) -> None:
    try:
        if plan.hostname:
            socket.sethostname(plan.hostname)
        if plan.domainname:
            process.setdomainname(plan.domainname)
        if plan.time_offsets:
            _enter_time_namespace(plan.time_offsets)
    except OSError as e:
        raise Refusal(f"sethostname: {reason(e)}") from e


def _enter_time_namespace(offsets: str) -> None:
    """Offsets can be set only while nobody is in the namespace: made for children first, then joined."""
    namespaces.unshare(namespaces.CLONE_NEWTIME)
    fd = os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, offsets.encode())
    finally:
        os.close(fd)
    own = os.open("/proc/self/ns/time_for_children", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.setns(own, namespaces.CLONE_NEWTIME)
    finally:
        os.close(own)


def _loopback_up() -> None:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        request = struct.pack("16sH22x", b"lo", 0)
        flags = struct.unpack_from("H", fcntl.ioctl(s.fileno(), _SIOCGIFFLAGS, request), 16)[0]
        if not flags & _IFF_UP:
            fcntl.ioctl(s.fileno(), _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))
    finally:
        s.close()


def _write_sysctl(name: str, value: str) -> None:
    """Through the host's /proc: the values shown there are those of the writer's own namespaces, and nothing of the
    container's can redirect the write (CVE-2025-52881)."""
    path = "sys/" + name.replace(".", "/")
    try:
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = paths.open_beneath(proc, path, os.O_WRONLY)
            try:
                if paths.filesystem_type(fd) != paths.PROC_SUPER_MAGIC:
                    raise OSError(errno.EXDEV, "not on procfs", path)
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        finally:
            os.close(proc)
    except OSError as e:
        raise Refusal(f"open sysctl {name} file: open /proc/{path}: {reason(e)}") from e
