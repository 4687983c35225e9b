"""cp and export: what is in a container as a tar, and a tar into a container.

    stat, get    a path of the container, its last link not followed
    put          into a directory of the container, all links followed
    export       its root filesystem alone

Works on running, paused, stopped and never started containers alike. A container that does not run cannot be started
meanwhile: its layers must not be mounted twice. Source: Engine API 1.56, ContainerArchive; texts as moby's archive.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from rorqual.api.container import MountPoint
from rorqual.daemon.remote import Mount
from rorqual.daemon.services import clock
from rorqual.daemon.services.containers import rootfs
from rorqual.daemon.services.containers.networking import Networking
from rorqual.daemon.services.containers.record import Container
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.threadbody import ThreadBody
from rorqual.daemon.services.volumemounts import VolumeMounts
from rorqual.daemon.spec import mounts
from rorqual.distribution import unpack
from rorqual.distribution.pack import Options, Packed, Packer, Stream, Write
from rorqual.errdefs import Cancelled, Conflict, Error, InvalidArgument, NotFound
from rorqual.linux import paths
from rorqual.oci import runtime

# Go's os.FileMode, which clients read: kinds and special bits are not where Unix has them.
_GO_KINDS = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFBLK: 1 << 26,
}
_GO_BITS = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))
_PASSWD_MAX = 1 << 20


class LayerSource(Protocol):
    """containerd's snapshots."""

    async def mounts(self, key: str) -> tuple[Mount, ...]:
        """How to mount a container's root filesystem."""


@dataclass(frozen=True, slots=True)
class PathStat:
    """X-Docker-Container-Path-Stat. `mode` as Go has it, `mtime` RFC 3339; `link_target` absolute in the container."""

    name: str
    size: int
    mode: int
    mtime: str
    link_target: str

    def to_json(self) -> dict[str, str | int]:
        return {
            "name": self.name,
            "size": self.size,
            "mode": self.mode,
            "mtime": self.mtime,
            "linkTarget": self.link_target,
        }


class Archives:
    """Files of containers."""

    def __init__(
        self,
        layers: LayerSource,
        volume_mounts: VolumeMounts,
        networking: Networking,
        events: Events,
        scratch: str,
    ) -> None:
        """`scratch`: a directory of the daemon's own, mounted over in private namespaces only."""
        self._layers = layers
        self._volume_mounts = volume_mounts
        self._networking = networking
        self._events = events
        self._scratch = scratch

    # ---- what is asked for ----

    async def stat(self, container: Container, path: str) -> PathStat:
        """Raises: NotFound with Docker's text, InvalidArgument for a path through something that is no directory."""
        async with self._opened(container) as root:
            with _file_errors(container, path):
                return await asyncio.to_thread(_stat, root.fd, path)

    @asynccontextmanager
    async def get(self, container: Container, path: str) -> AsyncIterator[tuple[PathStat, AsyncIterator[bytes]]]:
        """What the path is, and its tar; in the block only. Raises: as stat."""
        async with self._opened(container) as root:
            with _file_errors(container, path):
                found = await asyncio.to_thread(_stat, root.fd, path)
            async with Stream(partial(_pack_path, root.fd, path)) as stream:
                self._publish(container, "archive-path")
                yield found, aiter(stream)

    async def put(
        self, container: Container, path: str, body: AsyncIterator[bytes], *, keep_kinds: bool, own: bool
    ) -> None:
        """Unpack the tar in `body` (plain, gzip, zstd, bzip2 or xz) into the directory `path`.

        With `keep_kinds` directories are not replaced by others, nor the other way round; with `own` everything
        belongs to the container's user. Raises: NotFound, InvalidArgument; what unpacking raises.
        """
        stream = ThreadBody()
        async with self._planned(container) as plan:
            work = partial(_extract, plan, container, path, stream, keep_kinds=keep_kinds, own=own)
            pumping = asyncio.create_task(stream.pump(body), name="archive body")
            try:
                with _file_errors(container, path):
                    await rootfs.in_own_thread(work, lambda: stream.fail(Cancelled("the engine is stopping")))
            finally:
                pumping.cancel()
                await asyncio.gather(pumping, return_exceptions=True)
        self._publish(container, "extract-to-dir")

    @asynccontextmanager
    async def export(self, container: Container) -> AsyncIterator[AsyncIterator[bytes]]:
        """The tar of its root filesystem, without volumes; in the block only. Raises: Conflict."""
        if container.removing:
            raise Conflict(f"You cannot export container {container.id} which is being removed")
        async with self._opened(container, root_only=True) as root, Stream(partial(_pack_all, root.fd)) as stream:
            self._publish(container, "export")
            yield aiter(stream)

    def _publish(self, container: Container, action: str) -> None:
        self._events.publish("container", action, container.id, container.event_attributes())

    # ---- where it is ----

    @asynccontextmanager
    async def _opened(self, container: Container, *, root_only: bool = False) -> AsyncIterator[rootfs.Rootfs]:
        async with self._planned(container, root_only=root_only) as plan:
            root = await rootfs.in_own_thread(partial(rootfs.open_rootfs, plan))
            try:
                yield root
            finally:
                root.close()

    @asynccontextmanager
    async def _planned(self, container: Container, *, root_only: bool = False) -> AsyncIterator[rootfs.Plan]:
        async with AsyncExitStack() as stack:
            if not container.state.running:
                await stack.enter_async_context(container.lock)
            if container.removing:
                raise NotFound(f"No such container: {container.id}")
            if container.state.running:
                kept = frozenset(point.destination for point in container.mounts)
                yield rootfs.Plan(container.id, self._scratch, pid=container.state.pid, kept=kept, root_only=root_only)
                return
            layers = await self._layers.mounts(container.snapshot_key)
            binds: tuple[runtime.Mount, ...] = ()
            if not root_only:
                binds = await self._binds(container, stack)
            yield rootfs.Plan(container.id, self._scratch, layers=layers, binds=binds, root_only=root_only)

    async def _binds(self, container: Container, stack: AsyncExitStack) -> tuple[runtime.Mount, ...]:
        """As a start would mount them."""
        requests = {wish.target: wish for wish in mounts.wanted(container.config, container.host)}
        stack.push_async_callback(self._detach, container)
        replaced = await self._volume_mounts.attach(container, requests)
        found = [replaced.get(mount.destination, mount) for mount in mounts.to_spec(container.mounts, requests)]
        taken = {mount.destination for mount in found}
        files = zip(("/etc/hostname", "/etc/hosts", "/etc/resolv.conf"), self._network_files(container), strict=False)
        for target, source in files:
            if target not in taken and os.path.exists(source):
                found.append(runtime.Mount(target, "bind", source, ("bind", "rw")))
        return tuple(found)

    def _network_files(self, container: Container) -> tuple[str, ...]:
        try:
            return self._networking.files(container)
        except NotFound:
            return ()  # the container whose network it shares is gone

    async def _detach(self, container: Container) -> None:
        await self._volume_mounts.created(container)
        await self._volume_mounts.detach(container)


class _file_errors:
    """Docker's errors for a path that cannot be had."""

    def __init__(self, container: Container, path: str) -> None:
        self._container = container
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FileNotFoundError):
            name = self._container.name
            raise NotFound(f"Could not find the file {self._path} in container {name}") from error
        if isinstance(error, OSError):
            reason = (error.strerror or str(error)).lower()
            raise InvalidArgument(f"lstat {self._path}: {reason}") from error


# ---- in threads ----


def _stat(root: int, path: str) -> PathStat:
    fd = _open(root, path)
    try:
        info = os.fstat(fd)
    finally:
        os.close(fd)
    target = paths.resolved_in_root(root, path) if stat.S_ISLNK(info.st_mode) else ""
    mode = stat.S_IMODE(info.st_mode) & 0o777 | _GO_KINDS.get(stat.S_IFMT(info.st_mode), 0)
    for bit, go_bit in _GO_BITS:
        mode |= go_bit if info.st_mode & bit else 0
    return PathStat(_base(path), info.st_size, mode, clock.rfc3339(info.st_mtime_ns), target)


def _open(root: int, path: str) -> int:
    """An O_PATH fd of the path; its last link is followed only where a slash or a dot behind it says so."""
    follow = path.endswith(("/", "/."))
    flags = os.O_PATH | (os.O_DIRECTORY if follow else os.O_NOFOLLOW)
    return paths.open_in_root(root, path.lstrip("/") or ".", flags, waits=True)


def _base(path: str) -> str:
    """Go's filepath.Base: `/` of the root, `.` of what ends in /."""
    trimmed = path.rstrip("/")
    return trimmed.rpartition("/")[2] if trimmed else "/"


def _pack_path(root: int, path: str, write: Write) -> Packed:
    packer = Packer(write, Options(mounts=True))
    fd = _open(root, path)
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            packer.tree(fd, os.fsencode(_base(path)))
            return packer.finish()
    finally:
        os.close(fd)
    name = _base(path)
    directory = path.rstrip("/").rpartition("/")[0]
    parent = paths.open_in_root(root, directory.lstrip("/") or ".", os.O_PATH | os.O_DIRECTORY, waits=True)
    try:
        packer.path(parent, os.fsencode(name), os.fsencode(name))
    finally:
        os.close(parent)
    return packer.finish()


def _pack_all(root: int, write: Write) -> Packed:
    packer = Packer(write)
    packer.tree(root)
    return packer.finish()


def _extract(
    plan: rootfs.Plan, container: Container, path: str, body: ThreadBody, *, keep_kinds: bool, own: bool
) -> None:
    root = rootfs.open_rootfs(plan)
    try:
        flags = os.O_PATH
        fd = paths.open_in_root(root.fd, path.lstrip("/") or ".", flags, waits=True)
        try:
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                raise InvalidArgument("extraction point is not a directory")
        finally:
            os.close(fd)
        into = paths.resolved_in_root(root.fd, path)
        _check_writable(container, into)
        owner = user_ids(root.fd, container.config.user) if own and container.config.user else None
        copying = unpack.Copying(os.fsencode(into), owner, keep_kinds)
        unpack.apply(body, root.fd, copying=copying)
    finally:
        root.close()


def _check_writable(container: Container, path: str) -> None:
    """Raises: InvalidArgument when that is on a read-only volume or root; the kernel would refuse each file too."""
    point = _mount_of(container.mounts, path)
    if point is not None:
        if not point.rw:
            raise InvalidArgument("mounted volume is marked read-only")
    elif container.host.readonly_rootfs:
        raise InvalidArgument("container rootfs is marked read-only")


def _mount_of(points: tuple[MountPoint, ...], path: str) -> MountPoint | None:
    over = [p for p in points if path == p.destination or path.startswith(p.destination.rstrip("/") + "/")]
    return max(over, key=lambda p: len(p.destination), default=None)


def user_ids(root: int | None, text: str) -> tuple[int, int]:
    """(uid, gid) of `user[:group]`, names looked up in the container's own files as text, never by the host's libc.

    Raises: InvalidArgument.
    """
    name, _, group = text.partition(":")
    users = _entries(root, "etc/passwd")
    entry = next((e for e in users if len(e) > 3 and name in (e[0], e[2])), None)
    try:
        uid = int(entry[2]) if entry else int(name)
        gid = int(entry[3]) if entry else 0
        if group:
            groups = _entries(root, "etc/group")
            gid = int(next((e[2] for e in groups if len(e) > 2 and group == e[0]), group))
    except ValueError:
        raise InvalidArgument(f"unable to find user {text}: no matching entries in passwd file") from None
    if not (0 <= uid < 1 << 31 and 0 <= gid < 1 << 31):
        raise InvalidArgument(f"uids and gids must be in range 0-2147483647: {text}")
    return uid, gid


def _entries(root: int | None, path: str) -> list[list[str]]:
    if root is None:
        return []
    try:
        data = paths.read_in_root(root, path, _PASSWD_MAX)
    except (OSError, Error):
        return []
    return [line.split(":") for line in data.decode(errors="replace").splitlines()]
