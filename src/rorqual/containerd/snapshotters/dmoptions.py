"""Docker's dm.* storage options, read and checked. Pure.

Those that have no meaning here are taken, as their effect is always so: the kernel's own nodes need no udev
synchronisation, and devices are always removed and deleted when their last user goes (deferred).
Source: docs.docker.com, "storage-driver options", devicemapper; moby daemon/graphdriver/devmapper (texts).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rorqual.errdefs import InvalidArgument
from rorqual.linux.dm import SECTOR_BYTES

FILE_SYSTEMS = ("ext4", "xfs")
_MAPPER = "/dev/mapper/"
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_BLOCK_MIN, _BLOCK_MAX = 64 << 10, 1 << 30  # of a pool. Source: Documentation/admin-guide/device-mapper/thin-pool


@dataclass(frozen=True, slots=True)
class DmOptions:
    """Sizes in bytes, shares in percent. One of `pool`, `device` says where the pool is; neither: two sparse files."""

    pool: str = ""  # dm.thinpooldev: a name below /dev/mapper
    device: str = ""  # dm.directlvm_device: a block device of our own
    device_force: bool = False
    data_percent: int = 95
    metadata_percent: int = 1
    base_bytes: int = 10 << 30
    file_system: str = ""  # xfs where its programs are, else ext4
    mkfs_arguments: tuple[str, ...] = ()
    mount_options: str = ""
    loop_data_bytes: int = 100 << 30
    loop_metadata_bytes: int = 2 << 30
    block_bytes: int = 64 << 10
    min_free_percent: int = 10
    discard: bool = True


def parse(options: Sequence[str]) -> DmOptions:
    """Of "dm.name=value" each. Raises InvalidArgument with Docker's texts for one that is unknown or senseless."""
    chosen = DmOptions()
    for option in options:
        key, equals, value = option.partition("=")
        key = key.lower()
        if not equals:
            raise InvalidArgument(f"unable to parse key/value option: {option}")
        if key in _ALWAYS_SO:
            _bool(key, value)
        elif key in _NUMBERS_FOR_OTHERS:
            _number(key, value)
        elif key in _NOT_HERE:
            raise InvalidArgument(f"devmapper: {key} is deprecated: use dm.thinpooldev")
        elif key in _OPTIONS:
            attribute, read = _OPTIONS[key]
            chosen = replace(chosen, **{attribute: read(key, value)})
        else:
            raise InvalidArgument(f"devmapper: Unknown option {key}")
    _check(chosen)
    return chosen


def _check(options: DmOptions) -> None:
    if options.pool and options.device:
        raise InvalidArgument("devmapper: dm.thinpooldev and dm.directlvm_device cannot both be given")
    if options.data_percent + options.metadata_percent > 100:
        raise InvalidArgument("devmapper: dm.thinp_percent and dm.thinp_metapercent are more than 100 together")
    if options.base_bytes < 64 << 20:
        raise InvalidArgument(f"devmapper: dm.basesize {options.base_bytes} is too small for a file system")
    size = options.block_bytes
    if not _BLOCK_MIN <= size <= _BLOCK_MAX or size % _BLOCK_MIN:
        raise InvalidArgument(f"devmapper: dm.blocksize {size} is no multiple of 64k between 64k and 1g")


def _size(key: str, text: str) -> int:
    """`10G`, `512m`, `64KB`, in powers of 1024; a multiple of a sector."""
    lowered = text.strip().lower()
    for suffix in ("ib", "b"):
        if lowered.endswith(suffix):
            lowered = lowered[: -len(suffix)]
            break
    number = lowered.rstrip("kmgt")
    try:
        size = int(float(number) * _UNITS[lowered[len(number) :]])
    except (ValueError, KeyError, OverflowError):
        raise InvalidArgument(f"devmapper: {key}: invalid size: '{text}'") from None
    if size <= 0:
        raise InvalidArgument(f"devmapper: {key}: invalid size: '{text}'")
    return size // SECTOR_BYTES * SECTOR_BYTES


def _bool(key: str, text: str) -> bool:
    lowered = text.lower()
    if lowered in ("1", "t", "true"):
        return True
    if lowered in ("0", "f", "false"):
        return False
    raise InvalidArgument(f"devmapper: {key}: invalid syntax: '{text}' is neither true nor false")


def _number(key: str, text: str) -> int:
    if not text.isdecimal():
        raise InvalidArgument(f"devmapper: {key}: invalid syntax: '{text}' is no number")
    return int(text)


def _percent(key: str, text: str) -> int:
    value = _number(key, text.removesuffix("%"))
    if value >= 100:
        raise InvalidArgument(f"devmapper: Invalid value {text} for {key}")
    return value


def _pool(_key: str, text: str) -> str:
    return text.removeprefix(_MAPPER)


def _device(key: str, text: str) -> str:
    if not text.startswith("/dev/"):
        raise InvalidArgument(f"devmapper: {key}: '{text}' is no path of a block device")
    return text


def _file_system(_key: str, text: str) -> str:
    if text not in FILE_SYSTEMS:
        raise InvalidArgument(f"devmapper: Unsupported filesystem {text}")
    return text


def _words(_key: str, text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _text(_key: str, text: str) -> str:
    return text


_OPTIONS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "dm.thinpooldev": ("pool", _pool),
    "dm.directlvm_device": ("device", _device),
    "dm.directlvm_device_force": ("device_force", _bool),
    "dm.thinp_percent": ("data_percent", _percent),
    "dm.thinp_metapercent": ("metadata_percent", _percent),
    "dm.basesize": ("base_bytes", _size),
    "dm.fs": ("file_system", _file_system),
    "dm.mkfsarg": ("mkfs_arguments", _words),
    "dm.mountopt": ("mount_options", _text),
    "dm.loopdatasize": ("loop_data_bytes", _size),
    "dm.loopmetadatasize": ("loop_metadata_bytes", _size),
    "dm.blocksize": ("block_bytes", _size),
    "dm.min_free_space": ("min_free_percent", _percent),
    "dm.blkdiscard": ("discard", _bool),
}
_ALWAYS_SO = ("dm.use_deferred_removal", "dm.use_deferred_deletion", "dm.override_udev_sync_check")
_NUMBERS_FOR_OTHERS = (  # LVM's growing of a pool, libdevmapper's log, XFS' retries: none of them has a part in ours
    "dm.thinp_autoextend_threshold",
    "dm.thinp_autoextend_percent",
    "dm.libdm_log_level",
    "dm.xfs_nospace_max_retries",
)
_NOT_HERE = ("dm.datadev", "dm.metadatadev")
