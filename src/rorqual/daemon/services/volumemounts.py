"""What has to be mounted on the host before a container's own mounts can be made, and taken away again.

local volumes with options    on <data root>/volumes/<name>/_data, while a running container uses them
subpaths of volumes, images   on <exec root>/subpaths/<container>/<n>, only while the container is being created:
                              the path is pinned beneath the volume (openat2): nobody can swap a link meanwhile
/dev/shm of shared IPC        on <exec root>/shm/<container>, while it runs
image mounts                  nothing: the layers' directories are given to the runtime
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from rorqual.api.container import MountPoint
from rorqual.daemon.remote import Mount
from rorqual.daemon.services import localmounts
from rorqual.daemon.services.containers import rootfs
from rorqual.daemon.services.containers.record import Container
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.volumes import LOCAL, Volume, Volumes
from rorqual.daemon.spec.mounts import Wanted
from rorqual.errdefs import Conflict, Internal, InvalidArgument
from rorqual.linux import mount, paths
from rorqual.oci import runtime

_SHM = "/dev/shm"
_BENEATH = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_MAGICLINKS


class LayerSource(Protocol):
    """containerd's snapshots."""

    async def prepare(self, key: str, parent: str, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        """A writable snapshot."""

    async def remove(self, key: str) -> None:
        """Remove; fine when gone."""


class Running(Protocol):
    """Who runs."""

    def volume_runners(self, name: str) -> list[str]:
        """Ids of the running containers with the volume mounted."""


class VolumeMounts:
    """Called at each start and end of a container, under its lock."""

    def __init__(
        self, volumes: Volumes, running: Running, layers: LayerSource, data_root: Path, exec_root: Path, events: Events
    ) -> None:
        self._volumes = volumes
        self._data_root = data_root
        self._running = running
        self._layers = layers
        self._subpaths = exec_root / "subpaths"
        self._memory = exec_root / "shm"
        self._events = events
        self._lock = asyncio.Lock()

    def clear(self) -> None:
        """At the daemon's start (blocking): pins that a killed daemon left."""
        if not self._subpaths.is_dir():
            return
        for directory in self._subpaths.iterdir():
            self._unpin(directory.name)

    async def attach(self, container: Container, requests: Mapping[str, Wanted]) -> dict[str, runtime.Mount]:
        """Mount what the container's volumes need; mounts that stand for the usual ones, by destination.

        Raises: Internal, InvalidArgument; `created` or `detach` is to be called after.
        """
        replaced: dict[str, runtime.Mount] = {}
        await asyncio.to_thread(self._check_propagation, container)
        for number, point in enumerate(container.mounts):
            request = requests.get(point.destination)
            subpath = request.subpath if request is not None else ""
            options = ("rbind", *(() if point.rw else ("ro",)), "rprivate")
            if point.type == "image":
                layers = await self._image(container, point)
                if subpath:
                    source = await self._pin_image(container.id, number, layers, subpath)
                    layers = runtime.Mount(point.destination, "bind", source, options)
                replaced[point.destination] = layers
            if point.type != "volume":
                continue
            where = await self._mount(point.name, container.id)
            if where:
                replaced[point.destination] = runtime.Mount(point.destination, "bind", where, options)
            if subpath:
                source = await asyncio.to_thread(self._pin, container.id, number, where or point.source, subpath)
                replaced[point.destination] = runtime.Mount(point.destination, "bind", source, options)
        if (shm := await self._shared_memory(container)) is not None:
            replaced[_SHM] = shm
        return replaced

    def _check_propagation(self, container: Container) -> None:
        """What is asked of a bind mount, the mount it comes from must be able to give.

        Raises: Internal with moby's text. A place below the daemon's root, or that holds it, may be asked for more.
        """
        root = str(self._data_root)
        for point in container.mounts:
            wanted = point.propagation.removeprefix("r")
            if point.type != "bind" or wanted not in ("shared", "slave"):
                continue
            where, kinds = mount.propagation(point.source)
            if wanted == "shared" and "shared" not in kinds:
                raise Internal(f"path {point.source} is mounted on {where} but it is not a shared mount")
            near = point.source.startswith(root) or root.startswith(point.source)
            if wanted == "slave" and not kinds & {"shared", "master"} and not near:
                raise Internal(f"path {point.source} is mounted on {where} but it is not a shared or slave mount")

    async def _shared_memory(self, container: Container) -> runtime.Mount | None:
        """/dev/shm of who shares its IPC namespace and of who joins one: a tmpfs on the host that both bind."""
        mode, host = container.host.ipc_mode, container.host
        if mode == "shareable":
            path = self._memory / container.id
            await asyncio.to_thread(self._share_memory, path, host.shm_size)
        elif mode.startswith("container:"):
            donor = mode.partition(":")[2]
            path = self._memory / donor
            if not await asyncio.to_thread(localmounts.mounted, str(path)):
                raise Conflict(
                    f"can't join IPC of container {donor}: non-shareable IPC (hint: use IpcMode:shareable for the "
                    "donor container)"
                )
        else:
            return None
        if any(point.destination == _SHM for point in container.mounts):
            return None  # the user's own
        return runtime.Mount(_SHM, "bind", str(path), ("rbind", "rprivate"))

    @staticmethod
    def _share_memory(path: Path, size: int) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        localmounts.detach(str(path))  # of a start that was cut short
        flags = mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC
        mount.mount("shm", str(path), "tmpfs", flags, f"mode=1777,size={size}")

    def _unshare_memory(self, id: str) -> None:
        path = self._memory / id
        if path.exists():
            localmounts.detach(str(path))
            path.rmdir()

    @contextlib.asynccontextmanager
    async def using(self, volume: Volume) -> AsyncIterator[str]:
        """The volume's filesystem is mounted in the block, for who fills it; where it is."""
        user = secrets.token_hex(32)
        where = await self._mount(volume.name, user)
        try:
            yield where or volume.mountpoint
        finally:
            await self._unmount(volume.name, user)

    async def created(self, container: Container) -> None:
        """The container has its own mounts by now."""
        if (self._subpaths / container.id).exists():
            await asyncio.to_thread(self._unpin, container.id)

    def started(self, container: Container) -> None:
        """Tell of each volume."""
        for point in _volumes(container.mounts):
            attributes = {
                "container": container.id,
                "destination": point.destination,
                "driver": point.driver,
                "propagation": point.propagation,
                "read/write": "true" if point.rw else "false",
            }
            self._events.publish("volume", "mount", point.name, attributes)

    async def detach(self, container: Container) -> None:
        """Its process has ended, or was never started."""
        await self.created(container)
        if container.host.ipc_mode == "shareable":
            await asyncio.to_thread(self._unshare_memory, container.id)
        for point in _volumes(container.mounts):
            await self._unmount(point.name, container.id)

    async def _unmount(self, name: str, ended: str) -> None:
        """Unless another container than `ended` runs with it."""
        volume = self._volumes.find(name)
        if volume is None:
            return
        if volume.driver != LOCAL:
            await (await self._volumes.driver(volume)).unmount(name, ended)
            return
        if not volume.options:
            return
        async with self._lock:
            if not [id for id in self._running.volume_runners(name) if id != ended]:
                await asyncio.to_thread(localmounts.detach, volume.mountpoint)

    def ended(self, container: Container) -> None:
        """Tell of each volume."""
        for point in _volumes(container.mounts):
            self._events.publish("volume", "unmount", point.name, {"container": container.id, "driver": point.driver})

    async def _mount(self, name: str, user: str) -> str:
        """Where a plugin has put it; "" for a local volume, whose place is known."""
        volume = self._volumes.find(name)
        if volume is None:
            return ""
        if volume.driver != LOCAL:
            return await (await self._volumes.driver(volume)).mount(name, user)
        wanted = localmounts.parse(volume.options)
        if wanted is not None:
            async with self._lock:
                await asyncio.to_thread(localmounts.attach, wanted, volume.mountpoint)
        return ""

    def _pin(self, id: str, number: int, volume: str, subpath: str) -> str:
        """A bind mount of what `subpath` is now, beneath the volume and nowhere else."""
        root = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = _open_subpath(root, subpath, volume)
        finally:
            os.close(root)
        try:
            target = self._pin_target(id, number, fd)
            mount.mount(f"/proc/self/fd/{fd}", str(target), None, mount.MS_BIND | mount.MS_REC)
        finally:
            os.close(fd)
        return str(target)

    def _pin_target(self, id: str, number: int, fd: int) -> Path:
        """Where what `fd` has pinned can be mounted: a directory or a file, as it is."""
        target = self._subpaths / id / str(number)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            target.mkdir(mode=0o700, exist_ok=True)
        else:
            target.touch(mode=0o600)
        return target

    async def _pin_image(self, id: str, number: int, layers: runtime.Mount, subpath: str) -> str:
        """As _pin, beneath an image whose layers are mounted nowhere that the host can see."""
        scratch = self._subpaths / id / f"{number}-image"
        plan = rootfs.Plan(
            id,
            str(scratch),
            layers=(Mount(layers.type, layers.source, tuple(o for o in layers.options if o.startswith("lowerdir="))),),
            root_only=True,
            read_only=True,
        )

        def clone() -> int:
            whole = rootfs.open_rootfs(plan)
            try:
                fd = _open_subpath(whole.fd, subpath, "image")
                try:
                    return mount.clone_tree_of(fd, recursive=False)
                finally:
                    os.close(fd)
            finally:
                whole.close()

        def attach(tree: int) -> str:
            target = self._pin_target(id, number, tree)
            place = os.open(target, os.O_PATH | os.O_CLOEXEC)
            try:
                mount.attach(tree, place)
            finally:
                os.close(place)
            return str(target)

        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        tree = await rootfs.in_own_thread(clone)
        try:
            return await asyncio.to_thread(attach, tree)
        finally:
            os.close(tree)

    def _unpin(self, id: str) -> None:
        """Never by a recursive removal: what is below is the volume's."""
        directory = self._subpaths / id
        for entry in directory.iterdir():
            with contextlib.suppress(OSError):
                localmounts.detach(str(entry))
            if entry.is_dir():
                entry.rmdir()
            else:
                entry.unlink()
        directory.rmdir()

    async def _image(self, container: Container, point: MountPoint) -> runtime.Mount:
        """The layers of an image, read-only. The snapshot that shows where they are is gone at once."""
        key = f"{container.id}-image-{secrets.token_hex(4)}"
        try:
            shown = await self._layers.prepare(key, point.source, {})
        finally:
            await self._layers.remove(key)
        lower = next((o.removeprefix("lowerdir=") for m in shown for o in m.options if o.startswith("lowerdir=")), "")
        if not lower:
            raise Internal(f"image mount {point.destination}: this snapshotter's layers are no directories")
        if ":" not in lower:
            return runtime.Mount(point.destination, "bind", lower, ("rbind", "ro", "rprivate"))
        return runtime.Mount(point.destination, "overlay", "overlay", ("ro", f"lowerdir={lower}"))


def _open_subpath(root: int, subpath: str, of: str) -> int:
    """Raises: InvalidArgument for what is not there or leads out."""
    try:
        return paths.openat2(root, subpath, os.O_PATH, resolve=_BENEATH)
    except OSError as e:
        reason = "it leads out of the volume" if e.errno == errno.EXDEV else (e.strerror or "").lower()
        raise InvalidArgument(f"cannot access path {of}/{subpath}: {reason}") from e


def _volumes(points: Sequence[MountPoint]) -> Iterable[MountPoint]:
    return (point for point in points if point.type == "volume")
