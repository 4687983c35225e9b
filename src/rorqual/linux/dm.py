"""The kernel's device mapper by ioctl(2) on /dev/mapper/control, with kernel names. Source: linux/dm-ioctl.h.

A device is made empty (create), given a table (load), and works from its next resume on. Its node is /dev/dm-<minor>,
which devtmpfs makes; where there is none (a /dev of a container's own) `node` makes it. udev's rules are told to leave
our devices alone: their scan would hold them open for a moment, and so keep them from being removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from dataclasses import dataclass

CONTROL = "/dev/mapper/control"
SECTOR_BYTES = 512

_VERSION = (4, 27, 0)  # of the interface: DM_DEFERRED_REMOVE came with it
# version[3], data_size, data_start, target_count, open_count, flags, event_nr, padding, dev, name, uuid, data
_HEADER = struct.Struct("=3I3Ii3IQ128s129s7x")
_TARGET = struct.Struct("=QQiI16s")  # sector_start, length, status, next, target_type; its parameters follow
_BUFFER_BYTES = 16 * 1024
_NAME_MAX = 127

_DM_VERSION, _DM_DEV_CREATE, _DM_DEV_REMOVE, _DM_DEV_SUSPEND = 0, 3, 4, 6
_DM_DEV_STATUS, _DM_TABLE_LOAD, _DM_TABLE_STATUS, _DM_TARGET_MSG = 7, 9, 12, 14

DM_READONLY_FLAG = 1 << 0
DM_SUSPEND_FLAG = 1 << 1
DM_STATUS_TABLE_FLAG = 1 << 4
DM_ACTIVE_PRESENT_FLAG = 1 << 5
DM_BUFFER_FULL_FLAG = 1 << 8
DM_DEFERRED_REMOVE = 1 << 17
# in event_nr: no disk, subsystem or other rules. Source: libdevmapper.h, DM_UDEV_DISABLE_*_RULES_FLAG
_LEAVE_ALONE = 0x000E << 16


@dataclass(frozen=True, slots=True)
class Device:
    """What the kernel says of one."""

    name: str
    dev: int  # as in stat's st_rdev
    open_count: int
    flags: int

    @property
    def is_live(self) -> bool:
        """Whether it has a table that works."""
        return bool(self.flags & DM_ACTIVE_PRESENT_FLAG)


@dataclass(frozen=True, slots=True)
class Target:
    """A stretch of a device: `parameters` is what its type takes (table) or tells (status). In sectors."""

    start: int
    length: int
    type: str
    parameters: str


def version() -> tuple[int, int, int]:
    """Of the kernel's interface. Raises OSError: ENOENT, ENXIO or ENODEV where there is none."""
    major, minor, patch = struct.unpack_from("=3I", _call(_DM_VERSION, ""))
    return major, minor, patch


def create(name: str) -> Device:
    """A new device without a table. Raises OSError (EBUSY: there is one of that name)."""
    return _device(_call(_DM_DEV_CREATE, name))


def load(name: str, targets: list[Target], flags: int = 0) -> None:
    """Give it a table, which the next resume puts to work. Raises OSError (EINVAL: a target refused its parameters)."""
    payload = b""
    for target in targets:
        parameters = target.parameters.encode() + b"\0"
        size = -(-(_TARGET.size + len(parameters)) // 8) * 8
        payload += _TARGET.pack(target.start, target.length, 0, size, target.type.encode()) + parameters
        payload += b"\0" * (-len(payload) % 8)
    _call(_DM_TABLE_LOAD, name, payload, flags=flags, targets=len(targets))


def suspend(name: str) -> None:
    """Flush and hold all that is written to it, the file system on it frozen. Raises OSError."""
    _call(_DM_DEV_SUSPEND, name, flags=DM_SUSPEND_FLAG)


def resume(name: str) -> None:
    """Go on, with a new table if one was loaded. Raises OSError."""
    _call(_DM_DEV_SUSPEND, name, event=_LEAVE_ALONE)


def status(name: str) -> Device | None:
    """None when there is no device of that name. Raises OSError."""
    try:
        return _device(_call(_DM_DEV_STATUS, name))
    except OSError as e:
        if e.errno == errno.ENXIO:
            return None
        raise


def targets(name: str, *, table: bool = False) -> list[Target]:
    """Its targets with their status, or with the parameters of their table. Raises OSError (ENXIO: no such device)."""
    answer = _call(_DM_TABLE_STATUS, name, flags=DM_STATUS_TABLE_FLAG if table else 0)
    _, _, _, _, start, count, *_ = _HEADER.unpack_from(answer)
    found, at = [], start
    for _ in range(count):
        first, length, _, following, kind = _TARGET.unpack_from(answer, at)
        text = answer[at + _TARGET.size : start + following].partition(b"\0")[0]
        found.append(Target(first, length, kind.rstrip(b"\0").decode(), text.decode()))
        at = start + following
    return found


def message(name: str, text: str) -> None:
    """Tell the device's only target something. Raises OSError (what it is, is the target's own)."""
    _call(_DM_TARGET_MSG, name, struct.pack("=Q", 0) + text.encode() + b"\0")


def remove(name: str, *, deferred: bool = False) -> None:
    """End it; `deferred`: if it is in use, when it no longer is. Raises OSError (EBUSY: in use; ENXIO: not there)."""
    _call(_DM_DEV_REMOVE, name, flags=DM_DEFERRED_REMOVE if deferred else 0, event=_LEAVE_ALONE)


def node(device: Device) -> str:
    """The path of its node, made when devtmpfs does not. Raises OSError."""
    path = f"/dev/dm-{os.minor(device.dev)}"
    try:
        found = os.stat(path)
    except FileNotFoundError:
        os.mknod(path, stat.S_IFBLK | 0o600, device.dev)
        return path
    if found.st_rdev != device.dev or not stat.S_ISBLK(found.st_mode):
        os.unlink(path)
        os.mknod(path, stat.S_IFBLK | 0o600, device.dev)
    return path


def _call(
    number: int, name: str, payload: bytes = b"", *, flags: int = 0, targets: int = 0, event: int = 0
) -> bytearray:
    encoded = os.fsencode(name)
    if len(encoded) > _NAME_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
    size = max(_BUFFER_BYTES, _HEADER.size + len(payload))
    buffer = bytearray(size)
    _HEADER.pack_into(buffer, 0, *_VERSION, size, _HEADER.size, targets, 0, flags, event, 0, 0, encoded, b"")
    buffer[_HEADER.size : _HEADER.size + len(payload)] = payload
    code = 3 << 30 | _HEADER.size << 16 | 0xFD << 8 | number
    fd = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, code, buffer)
    except OSError as e:
        raise OSError(e.errno, os.strerror(e.errno or 0), name) from None
    finally:
        os.close(fd)
    if _HEADER.unpack_from(buffer)[7] & DM_BUFFER_FULL_FLAG:
        raise OSError(errno.EOVERFLOW, os.strerror(errno.EOVERFLOW), name)
    return buffer


def _device(answer: bytearray) -> Device:
    fields = _HEADER.unpack_from(answer)
    return Device(fields[11].partition(b"\0")[0].decode(), fields[10], fields[6], fields[7])
