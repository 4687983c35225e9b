"""A container's files, held by an fd: its root with everything mounted there, in a mount namespace of nobody's.

    running     a copy of the container's own mounts (open_tree in its namespace), without /proc, /sys and /dev
    otherwise   its layers mounted as a start would, binds and volumes on fds that are pinned below that root

All of it happens in one thread that shares neither namespace nor working directory with the others and ends at once;
the namespace lives as long as the fd on it. The host's mount table never has any of it. Nothing is executed, imported
or looked up inside the root, and every path goes through openat2 (CVE-2018-15664, CVE-2019-14271, CVE-2026-42306).
Source: open_tree(2), mount_namespaces(7), setns(2).
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rorqual import ownthread
from rorqual.daemon.remote import Mount
from rorqual.errdefs import Conflict, Internal
from rorqual.linux import mount, namespaces, paths
from rorqual.oci import runtime

T = TypeVar("T")

_CLONE_FS = 0x200
_ROOT = b"/"
_PSEUDO = ("proc", "sys", "dev")
_STACKED_MAX = 16  # mounts one over the other at one of these
_READ_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the files are. `pid` 0 for a container that doesn't run: then `layers` and `binds` are mounted.

    `scratch` is a directory of the daemon's own, only used as the place where the namespace has its mounts. `kept` are
    destinations of the user's own mounts.
    """

    id: str
    scratch: str
    pid: int = 0
    layers: tuple[Mount, ...] = ()
    binds: tuple[runtime.Mount, ...] = ()
    kept: frozenset[str] = frozenset()
    root_only: bool = False
    read_only: bool = False


class Rootfs:
    """The open root. `fd` is an O_PATH fd; close it when nothing reads below it any more."""

    def __init__(self, fd: int, namespace_fd: int) -> None:
        self.fd = fd
        self._namespace_fd = namespace_fd

    def close(self) -> None:
        """Let go: the kernel unmounts what only this held. Again is no error."""
        for fd in (self.fd, self._namespace_fd):
            if fd >= 0:
                os.close(fd)
        self.fd = self._namespace_fd = -1


async def in_own_thread(work: Callable[[], T], give_up: Callable[[], None] | None = None) -> T:
    """What `work` returns, run in a thread that is used for nothing else: it may change its namespaces and umask.

    Cancelled, this still waits for the thread's end, which `give_up` can bring about.
    """
    done = asyncio.ensure_future(ownthread.run(work, "rootfs"))
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        if give_up is not None:
            give_up()
        if not done.done():
            await asyncio.wait([done])
        if not done.cancelled() and done.exception() is None:
            result = done.result()
            if isinstance(result, Rootfs):
                result.close()
        raise


def open_rootfs(plan: Plan) -> Rootfs:
    """Make and open it. To be called in a thread of its own, which afterwards is in the new namespace.

    Raises: OSError; Conflict when the container has just ended; Internal.
    """
    namespaces.unshare(_CLONE_FS | namespaces.CLONE_NEWNS)
    mount.set_propagation("/", mount.MS_PRIVATE | mount.MS_REC)
    own = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if plan.pid:
            _attach_running(plan, own)
        else:
            _mount_layers(plan.layers, plan.scratch)
        root = paths.open_root(plan.scratch)
        try:
            if plan.pid:
                _without_pseudo(root, plan.kept)
            elif not plan.root_only:
                _attach_binds(root, plan.binds)
            if plan.read_only:
                mount.set_attributes(root, set_=mount.MOUNT_ATTR_RDONLY)
        except BaseException:
            os.close(root)
            raise
    except BaseException:
        os.close(own)
        raise
    return Rootfs(root, own)


# ---- a running container ----


def _attach_running(plan: Plan, own: int) -> None:
    scratch = paths.open_root(plan.scratch)
    tree = -1
    try:
        tree = _clone(plan, own)
        mount.attach(tree, scratch)
    finally:
        os.close(scratch)
        if tree >= 0:
            os.close(tree)


def _clone(plan: Plan, own: int) -> int:
    """A detached copy of the mounts of the container's namespace."""
    try:
        process = os.open(f"/proc/{plan.pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        raise Conflict(f"container {plan.id} is not running") from None
    try:
        # The number may be another process's by now; what the fd means cannot change any more.
        if not _is_of(process, plan.id):
            raise Conflict(f"container {plan.id} is not running")
        theirs = os.open("ns/mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
    except (FileNotFoundError, ProcessLookupError):
        raise Conflict(f"container {plan.id} is not running") from None
    finally:
        os.close(process)
    try:
        namespaces.setns(theirs, namespaces.CLONE_NEWNS)
        try:
            return mount.clone_tree("/", recursive=not plan.root_only)
        finally:
            namespaces.setns(own, namespaces.CLONE_NEWNS)
    finally:
        os.close(theirs)


def _is_of(process: int, id: str) -> bool:
    """Whether the process is in the container's cgroup: <parent>/<id>, or systemd's <prefix>-<id>.scope."""
    fd = os.open("cgroup", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
    try:
        text = os.read(fd, _READ_MAX).decode(errors="replace")
    finally:
        os.close(fd)
    names = {name for line in text.splitlines() for name in line.partition(":")[2].partition(":")[2].split("/")}
    return any(name == id or name.endswith(f"-{id}.scope") for name in names)


def _without_pseudo(root: int, kept: frozenset[str]) -> None:
    """Unmount /proc, /sys and /dev with all below, unless the user mounted something of his own there."""
    for name in _PSEUDO:
        if any(path == f"/{name}" or path.startswith(f"/{name}/") for path in kept):
            continue
        for _ in range(_STACKED_MAX):
            try:
                fd = paths.open_beneath(root, name, os.O_PATH | os.O_NOFOLLOW)
            except OSError:
                break
            try:
                mount.umount(f"/proc/self/fd/{fd}", mount.MNT_DETACH)
            except OSError:
                break  # EINVAL: nothing is mounted there
            finally:
                os.close(fd)


# ---- one that does not run ----


def _mount_layers(layers: Sequence[Mount], scratch: str) -> None:
    for layer in layers:
        if layer.type == "overlay":
            _mount_overlay(layer, scratch)
        elif layer.type == "bind":
            flags = mount.MS_BIND | mount.MS_REC
            mount.mount(layer.source, scratch, None, flags)
        else:
            raise Internal(f"a root filesystem of type {layer.type} cannot be opened")


def _mount_overlay(layer: Mount, scratch: str) -> None:
    """With paths relative to what all directories share: 128 of them, absolute, are more than mount(2) takes."""
    options = [option for option in layer.options if option not in ("rw", "ro")]
    directories: list[str] = []
    for option in options:
        key, _, value = option.partition("=")
        if key in ("lowerdir", "upperdir", "workdir"):
            directories += value.split(":")
    shared = os.path.commonpath(directories) if len(directories) > 1 else "/"
    data: list[str] = []
    for option in options:
        key, _, value = option.partition("=")
        if key in ("lowerdir", "upperdir", "workdir"):
            value = ":".join(os.path.relpath(directory, shared) for directory in value.split(":"))
            option = f"{key}={value}"
        data.append(option)
    os.chdir(shared)  # of this thread alone
    mount.mount(layer.source or "overlay", scratch, "overlay", 0, ",".join(data))
    os.chdir(_ROOT)


def _attach_binds(root: int, binds: Sequence[runtime.Mount]) -> None:
    """Each source as a detached tree with its attributes, then over a target that is pinned below the root."""
    for bind in binds:
        if bind.type != "bind":
            continue
        recursive = "rbind" in bind.options
        try:
            tree = mount.clone_tree(bind.source, recursive=recursive)
        except FileNotFoundError:
            continue  # a bind whose source is gone: a start would fail, its other files can be had
        try:
            if "ro" in bind.options:
                mount.set_attributes(tree, set_=mount.MOUNT_ATTR_RDONLY, recursive="rro" in bind.options)
            if stat.S_ISDIR(os.fstat(tree).st_mode):
                target = paths.mkdir_all_in_root(root, bind.destination)
            else:
                target = paths.create_in_root(root, bind.destination)
            try:
                mount.attach(tree, target)
            finally:
                os.close(target)
        finally:
            os.close(tree)
