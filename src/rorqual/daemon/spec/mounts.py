"""-v, --mount, --tmpfs and image VOLUMEs: parsing, with Docker's rules and texts, and their runtime-spec form.

A `Wanted` is what the user asked for; a `MountPoint` (API type) is what inspect shows, kept with the container; both
are made at create. Nothing is mounted here.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rorqual.api.config import ContainerConfig, HostConfig, Mount
from rorqual.api.container import MountPoint
from rorqual.errdefs import InvalidArgument
from rorqual.oci import defaults, runtime

_PROPAGATIONS = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})
_CONSISTENCY = frozenset({"consistent", "cached", "delegated", "default"})
_TMPFS_DEFAULTS = ("noexec", "nosuid", "nodev")
_OPPOSITE = {"noexec": "exec", "nosuid": "suid", "nodev": "dev"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """One mount asked for. `kind` is bind, volume, tmpfs or image; `source` a host path, a name or ""."""

    kind: str
    source: str
    target: str
    writable: bool = True
    mode: str = ""
    propagation: str = ""
    driver: str = ""
    driver_options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    copy: bool = True
    subpath: str = ""
    create_source: bool = False
    recursive: bool = True
    recursive_read_only: bool = True
    tmpfs: tuple[str, ...] = ()


def wanted(config: ContainerConfig, host: HostConfig) -> list[Wanted]:
    """All mounts asked for, one a target. Raises: InvalidArgument for a bad one or a target given twice."""
    found: dict[str, Wanted] = {}

    def add(mount: Wanted) -> None:
        if mount.target in found:
            raise InvalidArgument(f"Duplicate mount point: {mount.target}")
        found[mount.target] = mount

    for bind in host.binds or ():
        add(parse_bind(bind, host.volume_driver))
    for mount in host.mounts or ():
        add(_from_mount(mount))
    for target, options in (host.tmpfs or {}).items():
        add(Wanted("tmpfs", "", clean_target(target), tmpfs=_tmpfs_options(options)))
    for target in config.volumes or {}:
        cleaned = clean_target(target)
        if cleaned not in found:
            found[cleaned] = Wanted("volume", "", cleaned, driver=host.volume_driver)
    return list(found.values())


def clean_target(path: str) -> str:
    """An absolute path of the container, cleaned. Raises: InvalidArgument."""
    if not path.startswith("/"):
        raise InvalidArgument(f"invalid mount path: '{path}' mount path must be absolute")
    cleaned = posixpath.normpath(path)
    cleaned = "/" + cleaned.lstrip("/")
    if cleaned == "/":
        raise InvalidArgument("invalid specification: destination can't be '/'")
    return cleaned


def parse_bind(text: str, volume_driver: str = "") -> Wanted:
    """`source:target[:mode]` of -v. Raises: InvalidArgument."""
    parts = text.split(":")
    if len(parts) > 3 or not all(parts[:2]):
        raise InvalidArgument(f"invalid volume specification: '{text}'")
    kind = "bind" if len(parts) > 1 and parts[0].startswith("/") else "volume"
    try:
        target = clean_target(parts[min(1, len(parts) - 1)])
    except InvalidArgument as e:
        raise InvalidArgument(
            f"invalid volume specification: '{text}': invalid mount config for type \"{kind}\": {e}"
        ) from None
    if len(parts) == 1:
        return Wanted("volume", "", target, driver=volume_driver)
    source = parts[0]
    mode = parts[2] if len(parts) == 3 else ""
    flags = [f for f in mode.split(",") if f]
    if (len(parts) == 3 and not mode) or not _mode_is_valid(flags):
        raise InvalidArgument(f"invalid mode: {mode}")
    propagation = next((f for f in flags if f in _PROPAGATIONS), "")
    writable = "ro" not in flags
    if source.startswith("/"):
        if "nocopy" in flags:
            raise InvalidArgument(
                f"invalid volume specification: '{text}': invalid mount config for type \"bind\": "
                "field VolumeOptions must not be specified"
            )
        return Wanted(
            "bind", posixpath.normpath(source), target, writable, mode, propagation or "rprivate", create_source=True
        )
    if not _is_volume_name(source):
        raise InvalidArgument(
            f'create {source}: "{source}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )
    if propagation:
        raise InvalidArgument(f"invalid volume specification: '{text}': invalid mode: {mode}")
    return Wanted("volume", source, target, writable, mode or "z", driver=volume_driver, copy="nocopy" not in flags)


def _mode_is_valid(flags: Sequence[str]) -> bool:
    groups = (
        {"ro", "rw"},
        {"z", "Z"},
        _PROPAGATIONS,
        {"nocopy"},
        _CONSISTENCY,
    )
    used = [next((i for i, group in enumerate(groups) if flag in group), -1) for flag in flags]
    return -1 not in used and len(set(used)) == len(used)


def _is_volume_name(name: str) -> bool:
    return (
        len(name) > 1
        and name[0].isascii()
        and name[0].isalnum()
        and all(c.isascii() and (c.isalnum() or c in "_.-") for c in name)
    )


def _from_mount(mount: Mount) -> Wanted:
    def invalid(reason: str) -> InvalidArgument:
        return InvalidArgument(f'invalid mount config for type "{mount.type}": {reason}')

    if not mount.target:
        raise invalid("field Target must not be empty")
    if not mount.target.startswith("/"):
        raise invalid(f"invalid mount path: '{mount.target}' mount path must be absolute")
    if posixpath.normpath(mount.target) in ("/", "//"):
        raise invalid("invalid specification: destination can't be '/'")
    target = clean_target(mount.target)
    writable = not mount.read_only
    options = mount.bind_options
    match mount.type:
        case "bind":
            if not mount.source:
                raise invalid("field Source must not be empty")
            if not mount.source.startswith("/"):
                raise invalid(f"invalid mount path: '{mount.source}' mount path must be absolute")
            if mount.volume_options is not None:
                raise invalid("field VolumeOptions must not be specified")
            propagation = options.propagation if options else ""
            if propagation and propagation not in _PROPAGATIONS:
                raise invalid(f"invalid propagation mode: {propagation}")
            create = bool(options and options.create_mountpoint)
            if not create and not os.path.lexists(mount.source):
                raise invalid(f"bind source path does not exist: {mount.source}")
            return Wanted(
                "bind",
                posixpath.normpath(mount.source),
                target,
                writable,
                propagation=propagation or "rprivate",
                create_source=create,
                recursive=not (options and options.non_recursive),
                recursive_read_only=not (options and options.read_only_non_recursive),
            )
        case "volume":
            if options is not None:
                raise invalid("field BindOptions must not be specified")
            volume = mount.volume_options
            if mount.source and not _is_volume_name(mount.source):
                raise invalid(f'"{mount.source}" includes invalid characters for a local volume name')
            driver = volume.driver_config if volume else None
            return Wanted(
                "volume",
                mount.source,
                target,
                writable,
                mode="z",
                driver=driver.name if driver else "",
                driver_options=dict(driver.options or {}) if driver else {},
                labels=dict(volume.labels or {}) if volume else {},
                copy=not (volume and volume.no_copy),
                subpath=volume.subpath if volume else "",
            )
        case "tmpfs":
            if mount.source:
                raise invalid("field Source must not be specified")
            tmpfs = mount.tmpfs_options
            extra = [] if writable else ["ro"]
            if tmpfs and tmpfs.options:
                extra += _tmpfs_pairs(tmpfs.options, invalid)
            if tmpfs and tmpfs.size_bytes:
                extra.append(f"size={tmpfs.size_bytes}")
            if tmpfs and tmpfs.mode < 0:
                raise invalid(f"invalid mode of tmpfs: {tmpfs.mode}")
            if tmpfs and tmpfs.mode:
                extra.append(f"mode={tmpfs.mode:o}")
            kept = [o for o in _TMPFS_DEFAULTS if _OPPOSITE[o] not in extra and o not in extra]
            return Wanted("tmpfs", "", target, writable, tmpfs=(*kept, *extra))
        case "image":
            if not mount.source:
                raise invalid("field Source must not be empty")
            if options is not None or mount.volume_options is not None or mount.tmpfs_options is not None:
                raise invalid("only ImageOptions may be specified")
            subpath = mount.image_options.subpath if mount.image_options else ""
            return Wanted("image", mount.source, target, writable=False, subpath=subpath)
    raise invalid("mount type unknown")


def _tmpfs_pairs(options: Any, invalid: Callable[[str], InvalidArgument]) -> list[str]:
    """TmpfsOptions.Options: [["exec"], ["uid", "1000"]]."""
    found: list[str] = []
    for pair in options if isinstance(options, list) else [None]:
        if not isinstance(pair, list) or len(pair) not in (1, 2) or not all(isinstance(p, str) for p in pair):
            raise invalid("invalid option array length")
        if pair[0] not in _TMPFS_KNOWN:
            raise invalid(f"invalid option: {pair[0]}")
        found.append("=".join(pair))
    return found


def _tmpfs_options(text: str) -> tuple[str, ...]:
    given = [o for o in text.split(",") if o]
    for option in given:
        name = option.partition("=")[0]
        if name not in _TMPFS_KNOWN:
            raise InvalidArgument(f'Invalid tmpfs option "{option}"')
    kept = [o for o in _TMPFS_DEFAULTS if o not in given and _OPPOSITE[o] not in given]
    return (*kept, *given)


_TMPFS_KNOWN_TEXT = """
    exec noexec suid nosuid dev nodev atime noatime diratime nodiratime relatime norelatime strictatime
    nostrictatime rw ro sync async dirsync mand nomand private rprivate shared rshared slave rslave unbindable
    runbindable bind rbind remount defaults mode uid gid size nr_inodes nr_blocks mpol
"""
_TMPFS_KNOWN = frozenset(_TMPFS_KNOWN_TEXT.split())


def to_spec(
    points: Iterable[MountPoint], requests: Mapping[str, Wanted], replaced: Mapping[str, runtime.Mount] | None = None
) -> list[runtime.Mount]:
    """The runtime-spec mounts of a container's mount points, parents first; `replaced` by destination."""
    mounts: list[runtime.Mount] = []
    for point in sorted(points, key=lambda p: (p.destination.count("/"), p.destination)):
        request = requests.get(point.destination)
        if replaced and point.destination in replaced:
            mounts.append(replaced[point.destination])
            continue
        if point.type == "tmpfs":
            options = request.tmpfs if request else _TMPFS_DEFAULTS
            mounts.append(runtime.Mount(point.destination, "tmpfs", "tmpfs", (*options, "rprivate")))
            continue
        bind = "rbind" if request is None or request.recursive else "bind"
        # Never "rw": what is read-only on the host (a volume of such a filesystem) must stay so.
        options = (bind, *(() if point.rw else ("ro",)), point.propagation or "rprivate")
        if not point.rw and bind == "rbind" and (request is None or request.recursive_read_only):
            options = (*options, "rro")
        mounts.append(runtime.Mount(point.destination, "bind", point.source, options))
    return mounts


def with_defaults(user: Sequence[runtime.Mount], *, shm_size: int, privileged: bool, ipc: str) -> list[runtime.Mount]:
    """Docker's default mounts below the user's, which replace those of the same target."""
    taken = {m.destination for m in user}
    mounts: list[runtime.Mount] = []
    for mount in defaults.MOUNTS:
        if mount.destination in taken or (mount.destination == "/dev" and "/dev" in taken):
            continue
        options = mount.options
        if mount.destination == "/dev/shm":
            if ipc == "none":
                continue
            if ipc == "host":
                mount = runtime.Mount("/dev/shm", "bind", "/dev/shm", ())
                options = ("rbind", "rprivate")
            else:
                options = tuple(f"size={shm_size}" if o.startswith("size=") else o for o in options)
        elif privileged and mount.destination in ("/sys", "/sys/fs/cgroup"):
            options = tuple("rw" if o == "ro" else o for o in options)
        mounts.append(runtime.Mount(mount.destination, mount.type, mount.source, options))
    return [*mounts, *user]
