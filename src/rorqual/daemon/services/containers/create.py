"""POST /containers/create: check, merge with the image, prepare the snapshot, store. All or nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from rorqual.api.config import ContainerConfig, HostConfig
from rorqual.api.container import CreateRequest, MountPoint
from rorqual.api.network import EndpointSettings
from rorqual.daemon.config import DaemonConfig
from rorqual.daemon.remote import GC_ROOT, Mount
from rorqual.daemon.services import clock, health, names
from rorqual.daemon.services.containers import checks, links
from rorqual.daemon.services.containers.networking import network_name
from rorqual.daemon.services.containers.record import Container
from rorqual.daemon.services.containers.registry import Registry
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.images.library import LocalImage
from rorqual.daemon.services.volumemounts import VolumeMounts
from rorqual.daemon.services.volumes import Volume
from rorqual.daemon.spec import merge, mounts
from rorqual.errdefs import Error, InvalidArgument, NotFound
from rorqual.oci import platform as platforms
from rorqual.oci.platform import Platform

log = logging.getLogger(__name__)


class ImageSource(Protocol):
    """Where images are found."""

    async def find(self, text: str, platform: Platform | None = None) -> LocalImage:
        """Raises: NotFound."""


class Snapshots(Protocol):
    """containerd's snapshots."""

    snapshotter: str

    async def prepare(self, key: str, parent: str, labels: Mapping[str, str]) -> tuple[Mount, ...]:
        """A writable snapshot."""

    async def remove(self, key: str) -> None:
        """Remove; fine when gone."""


class VolumeSource(Protocol):
    """Volumes by name."""

    async def ensure(
        self,
        name: str,
        driver: str = "",
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Volume:
        """Found or made."""


class Populator(Protocol):
    """Fills a new volume with what the image has at its mount point."""

    async def populate(self, rootfs: tuple[Mount, ...], path: str, volume: str) -> None:
        """Copies `path` of the root filesystem into the empty directory `volume`."""


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What is asked for beyond Docker: by the user's own labels, and by a build."""

    restart_unhealthy: bool
    restart_delays_s: tuple[float, float]
    for_build: bool


class Creator:
    """Makes containers."""

    def __init__(
        self,
        registry: Registry,
        images: ImageSource,
        snapshots: Snapshots,
        volumes: VolumeSource,
        volume_mounts: VolumeMounts,
        populator: Populator,
        events: Events,
        config: DaemonConfig,
    ) -> None:
        self._registry = registry
        self._images = images
        self._snapshots = snapshots
        self._volumes = volumes
        self._volume_mounts = volume_mounts
        self._populator = populator
        self._events = events
        self._config = config

    async def create(
        self, request: CreateRequest, name: str, platform: str, *, for_build: bool = False
    ) -> tuple[Container, tuple[str, ...]]:
        """The new container and warnings; one `for_build` is removed at the daemon's next start.

        Raises: InvalidArgument, NotFound (image), Conflict (name).
        """
        given = request.host_config or HostConfig()
        host = checks.host_config(replace(given, runtime=given.runtime or request.runtime), self._config)
        checks.endpoints(host, request.networking_config, self._config)
        user_config = _plain_config(request)
        user_config = replace(user_config, healthcheck=health.from_labels(user_config.labels, user_config.healthcheck))
        checks.container_config(user_config)
        if host.uts_mode == "host" and user_config.hostname:
            raise InvalidArgument("conflicting options: hostname and the UTS mode")
        if not user_config.image:
            raise InvalidArgument("no image specified") if not user_config.cmd else NotFound("No such image: ")
        wanted = platforms.parse(platform) if platform else None
        image = await self._images.find(user_config.image, wanted)
        config = merge.merge(user_config, image.image.config)
        checks.container_config(config)
        host = links.resolve(self._resolve_modes(host), self._registry)
        asked = [*mounts.wanted(config, host), *self._volumes_from(host)]
        wishes = _Wishes(
            health.restarts_unhealthy(user_config.labels), checks.restart_delays(user_config.labels or {}), for_build
        )
        id = secrets.token_hex(32)
        bare = names.check(name) if name else names.generate(self._registry.names)
        with self._registry.reserved(bare, id):
            container = await self._make(id, bare, config, host, image, asked, _endpoints(request, host), wishes)
        attributes = container.event_attributes()
        self._events.publish("container", "create", id, attributes)
        return container, _warnings(host)

    async def _make(
        self,
        id: str,
        name: str,
        config: ContainerConfig,
        host: HostConfig,
        image: LocalImage,
        asked: list[mounts.Wanted],
        endpoints: dict[str, EndpointSettings],
        wishes: _Wishes,
    ) -> Container:
        path, args = merge.command(config)
        labels = {GC_ROOT: clock.rfc3339(clock.now_ns()), **checks.storage_labels(host, self._config)}
        try:
            rootfs = await self._snapshots.prepare(id, image.top, labels)
            points = await self._mount_points(asked, rootfs)
            container = Container(
                id=id,
                name=name,
                created_ns=clock.now_ns(),
                path=path,
                args=args,
                image_id=image.id,
                config=replace(config, hostname=config.hostname or _default_hostname(id, host)),
                host=host,
                endpoints=endpoints,
                mounts=points,
                snapshotter=self._snapshots.snapshotter,
                platform="linux",
                restart_unhealthy=wishes.restart_unhealthy,
                restart_delays_s=wishes.restart_delays_s,
                for_build=wishes.for_build,
                rootfs=rootfs,
            )
            await self._registry.add(container)
        except BaseException:
            await asyncio.shield(self._undo(id))
            raise
        return container

    async def _undo(self, id: str) -> None:
        try:
            await self._snapshots.remove(id)
        except Error as e:
            log.warning("container %s: its snapshot could not be removed after a failed create: %s", id, e)

    def _other(self, name: str) -> Container:
        """Raises: InvalidArgument when there is none: at a NotFound clients look for a missing image."""
        try:
            return self._registry.get(name)
        except NotFound as e:
            raise InvalidArgument(str(e)) from e

    def _resolve_modes(self, host: HostConfig) -> HostConfig:
        """`container:<name>` to `container:<id>`. Raises: InvalidArgument."""
        changes: dict[str, str] = {}
        for attr in ("network_mode", "ipc_mode", "pid_mode"):
            value: str = getattr(host, attr)
            if value.startswith("container:"):
                changes[attr] = "container:" + self._other(value.partition(":")[2]).id
        # mypy takes each str for every field's type; the three names above are of str fields.
        return replace(host, **changes) if changes else host  # type: ignore[arg-type]

    def _volumes_from(self, host: HostConfig) -> list[mounts.Wanted]:
        found: list[mounts.Wanted] = []
        for entry in host.volumes_from or ():
            name, _, mode = entry.partition(":")
            if mode not in ("", "ro", "rw", "z", "Z"):
                raise InvalidArgument(f"invalid mode: {mode}")
            for point in self._other(name).mounts:
                source = point.name if point.type == "volume" else point.source
                writable = point.rw and mode != "ro"
                found.append(
                    mounts.Wanted(point.type, source, point.destination, writable, point.mode, point.propagation)
                )
        return found

    async def _mount_points(self, asked: list[mounts.Wanted], rootfs: tuple[Mount, ...]) -> tuple[MountPoint, ...]:
        points: dict[str, MountPoint] = {}
        for wish in asked:
            if wish.target not in points:
                points[wish.target] = await self._mount_point(wish, rootfs)
        return tuple(points.values())

    async def _mount_point(self, wish: mounts.Wanted, rootfs: tuple[Mount, ...]) -> MountPoint:
        if wish.kind == "tmpfs":
            return MountPoint(type="tmpfs", destination=wish.target, rw=wish.writable)
        if wish.kind == "bind":
            if wish.create_source:
                await asyncio.to_thread(_make_source, wish.source)
            return MountPoint(
                type="bind",
                source=wish.source,
                destination=wish.target,
                mode=wish.mode,
                rw=wish.writable,
                propagation=wish.propagation,
            )
        if wish.kind == "image":
            image = await self._images.find(wish.source)
            return MountPoint(type="image", name=image.id, source=image.top, destination=wish.target)
        volume = await self._volumes.ensure(wish.source, wish.driver, wish.labels, wish.driver_options)
        if wish.copy and wish.writable:
            async with self._volume_mounts.using(volume) as where:
                await self._populator.populate(rootfs, wish.target, where)
        return MountPoint(
            type="volume",
            name=volume.name,
            source=volume.mountpoint,
            destination=wish.target,
            driver=volume.driver,
            mode=wish.mode,
            rw=wish.writable,
        )


def _make_source(path: str) -> None:
    try:
        os.makedirs(path, 0o755, exist_ok=True)
    except FileExistsError:
        return  # a file: bound as it is
    except OSError as e:
        raise InvalidArgument(f"error while creating mount source path '{path}': {e.strerror}") from e


def _plain_config(request: CreateRequest) -> ContainerConfig:
    from dataclasses import fields

    return ContainerConfig(**{f.name: getattr(request, f.name) for f in fields(ContainerConfig)})


def _default_hostname(id: str, host: HostConfig) -> str:
    if host.network_mode == "host" or host.uts_mode == "host":
        return os.uname().nodename
    return id[:12]


def _endpoints(request: CreateRequest, host: HostConfig) -> dict[str, EndpointSettings]:
    given = request.networking_config.endpoints_config if request.networking_config else {}
    endpoints = {network_name(name): settings or EndpointSettings() for name, settings in given.items()}
    if host.network_mode in ("host", "none") or host.network_mode.startswith("container:"):
        return {name: settings for name, settings in endpoints.items() if name == host.network_mode}
    return {network_name(host.network_mode): EndpointSettings(), **endpoints}


def _warnings(host: HostConfig) -> tuple[str, ...]:
    found: list[str] = []
    if host.oom_kill_disable and not host.memory:
        found.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system "
            "running out of resources."
        )
    if host.network_mode == "host" and host.port_bindings:
        found.append("Published ports are discarded when using host network mode")
    return tuple(found)
