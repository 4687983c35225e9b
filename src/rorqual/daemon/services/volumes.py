"""Volumes of the local driver: directories below the data root, known by name, counted by the containers using them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from rorqual.api.system import Volume as APIVolume
from rorqual.daemon.services import clock, localmounts
from rorqual.daemon.services.events import Events
from rorqual.daemon.services.filters import Filters
from rorqual.daemon.services.volumeplugins import VolumeDriver, VolumePlugins
from rorqual.distribution.pack.levels import Levels
from rorqual.errdefs import Conflict, InvalidArgument, NotFound
from rorqual.linux import removal

log = logging.getLogger(__name__)

FILTER_KEYS = frozenset({"dangling", "driver", "label", "name"})
PRUNE_KEYS = frozenset({"label", "label!", "all"})
ANONYMOUS = "com.docker.volume.anonymous"
LOCAL = "local"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume. Its files are in `mountpoint`; a plugin's has one while it is mounted, as a rule."""

    name: str
    mountpoint: str
    created_ns: int
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    driver: str = LOCAL

    @property
    def anonymous(self) -> bool:
        """Made for a container, without a name of the user's."""
        return ANONYMOUS in self.labels


class VolumeStore(Protocol):
    """Where volumes are kept."""

    def load_volumes(self) -> list[tuple[str, str]]:
        """(name, document)."""

    async def put_volume(self, name: str, document: str) -> None:
        """Add or replace."""

    async def delete_volume(self, name: str) -> None:
        """Remove."""


class References(Protocol):
    """Who uses volumes."""

    def volume_users(self, name: str) -> list[str]:
        """Ids of the containers with the volume mounted."""


class Volumes:
    """All volumes of the engine."""

    def __init__(
        self, store: VolumeStore, root: Path, references: References, events: Events, plugins: VolumePlugins
    ) -> None:
        self._store = store
        self._root = root
        self._references = references
        self._events = events
        self._plugins = plugins
        self._volumes: dict[str, Volume] = {}
        self._lock = asyncio.Lock()

    def load(self) -> None:
        """Read the store (blocking; at start-up)."""
        for name, document in self._store.load_volumes():
            data = json.loads(document)
            driver = data.get("driver", LOCAL)
            mountpoint = self._mountpoint(name) if driver == LOCAL else data.get("mountpoint", "")
            self._volumes[name] = Volume(name, mountpoint, data["created_ns"], data["labels"], data["options"], driver)

    def _mountpoint(self, name: str) -> str:
        return str(self._root / name / "_data")

    async def ensure(
        self,
        name: str,
        driver: str = "",
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Volume:
        """The volume of that name, made when there is none; "" makes up a name. Raises: InvalidArgument, NotFound."""
        plugin = await self._plugin(name, driver) if driver not in ("", LOCAL) else None
        labels = dict(labels or {})
        if not name:
            name = secrets.token_hex(32)
            labels[ANONYMOUS] = ""
        elif plugin is None and len(name) == 1:
            raise InvalidArgument(
                f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
            )
        elif plugin is None and not _NAME.match(name):
            raise InvalidArgument(
                f'create {name}: "{name}" includes invalid characters for a local volume name, only '
                '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
            )
        try:
            if plugin is None:
                localmounts.check(options or {})
        except InvalidArgument as e:
            raise InvalidArgument(f"create {name}: {e}") from e
        found = self._volumes.get(name)
        if found is not None:
            if driver and driver != found.driver:
                raise Conflict(
                    f"create {name}: conflict: volume name must be unique: driver {found.driver} has it already"
                )
            return found
        async with self._lock:
            found = self._volumes.get(name)
            if found is not None:
                return found
            volume = Volume(name, self._mountpoint(name), clock.now_ns(), labels, dict(options or {}))
            document = {"created_ns": volume.created_ns, "labels": labels, "options": dict(volume.options)}
            if plugin is None:
                await asyncio.to_thread(os.makedirs, volume.mountpoint, 0o755, True)
            else:
                await plugin.create(name, volume.options)
                volume = replace(volume, driver=plugin.name, mountpoint=await plugin.path(name))
                document |= {"driver": volume.driver, "mountpoint": volume.mountpoint}
            await self._store.put_volume(name, json.dumps(document))
            self._volumes[name] = volume
        self._events.publish("volume", "create", name, {"driver": volume.driver})
        return volume

    async def _plugin(self, name: str, driver: str) -> VolumeDriver:
        try:
            return await self._plugins.driver(driver)
        except NotFound as e:
            raise NotFound(f"create {name}: {e}") from e

    async def driver(self, volume: Volume) -> VolumeDriver:
        """The plugin of a volume that isn't local. Raises: NotFound."""
        return await self._plugins.driver(volume.driver)

    def find(self, name: str) -> Volume | None:
        """None when there is none."""
        return self._volumes.get(name)

    def get(self, name: str) -> Volume:
        """Raises: NotFound."""
        found = self._volumes.get(name)
        if found is None:
            raise NotFound(f"get {name}: no such volume")
        return found

    async def remove(self, name: str, *, force: bool) -> None:
        """Remove volume and files. Raises: NotFound (not with force), Conflict while used."""
        volume = self._volumes.get(name)
        if volume is None:
            if force:
                return
            raise NotFound(f"get {name}: no such volume")
        users = self._references.volume_users(name)
        if users:
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
        await self._delete(volume)
        self._events.publish("volume", "destroy", name, {"driver": volume.driver})

    async def _delete(self, volume: Volume) -> None:
        if volume.driver != LOCAL:
            await (await self.driver(volume)).remove(volume.name)
        async with self._lock:
            await self._store.delete_volume(volume.name)
            self._volumes.pop(volume.name, None)
        if volume.driver == LOCAL:
            await asyncio.to_thread(_remove_files, volume)

    def summaries(self, filters: Filters) -> list[APIVolume]:
        """Those that pass the filters."""
        dangling = filters.flag("dangling", False) if "dangling" in filters else None
        found = []
        for volume in sorted(self._volumes.values(), key=lambda v: v.name):
            if dangling is not None and dangling == bool(self._references.volume_users(volume.name)):
                continue
            if not filters.one_of("driver", volume.driver) or not filters.pattern("name", volume.name):
                continue
            if filters.labels("label", volume.labels):
                found.append(to_api(volume))
        return found

    async def prune(self, filters: Filters) -> tuple[list[str], int]:
        """Remove unused anonymous volumes (with all=true, named ones too); names and bytes."""
        everything = filters.flag("all", False)
        names: list[str] = []
        freed = 0
        for volume in list(self._volumes.values()):
            if (not everything and not volume.anonymous) or self._references.volume_users(volume.name):
                continue
            if not filters.labels("label", volume.labels) or _excluded(filters, volume.labels):
                continue
            if volume.driver != LOCAL:
                continue  # dockerd prunes local ones only
            freed += await asyncio.to_thread(size_of, volume.mountpoint)
            await self._delete(volume)
            self._events.publish("volume", "destroy", volume.name, {"driver": "local"})
            names.append(volume.name)
        self._events.publish("volume", "prune", "", {"reclaimed": str(freed)})
        return names, freed


def to_api(volume: Volume) -> APIVolume:
    """As the Engine API shows it."""
    return APIVolume(
        created_at=clock.rfc3339(volume.created_ns // 10**9 * 10**9),
        driver=volume.driver,
        labels=volume.labels or None,
        mountpoint=volume.mountpoint,
        name=volume.name,
        options=volume.options or None,
        scope="local",
    )


def _excluded(filters: Filters, labels: Mapping[str, str]) -> bool:
    """`label!=name` and `label!=name=value` keep what they match from being pruned."""
    return any(Filters({"label": (v,)}).labels("label", labels) for v in filters.get("label!"))


def _remove_files(volume: Volume) -> None:
    localmounts.detach(volume.mountpoint)  # what is mounted there is not the volume's to delete
    try:
        removal.remove_tree(os.path.dirname(volume.mountpoint))
    except FileNotFoundError:
        return
    except OSError as e:
        log.warning("volume %s: its files could not be removed: %s", volume.name, e)


def size_of(path: str) -> int:
    """Bytes allocated to the files below a directory; 0 when there is none.

    By descriptor and without recursion: a container can nest and move what is in it meanwhile as it likes.
    """
    try:
        top = os.open(path, _DIRECTORY)
    except OSError:
        return 0
    total = 0
    with Levels(top, os.fstat(top), b"") as levels:
        while (level := levels.current()) is not None:
            if not level.names:
                try:
                    levels.leave()
                except (Conflict, OSError):
                    break  # moved away: what was found so far
                continue
            name = level.names.pop()
            try:
                info = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
                if not stat.S_ISDIR(info.st_mode):
                    total += info.st_blocks * 512
                    continue
                inner = os.open(name, _DIRECTORY, dir_fd=level.fd)
            except OSError:
                continue
            levels.enter(inner, os.fstat(inner), b"")
    return total
