"""Loop devices: a file as a block device, by ioctl(2), with kernel names. Source: loop(4), linux/loop.h."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

CONTROL = "/dev/loop-control"

_LOOP_CLR_FD = 0x4C01
_LOOP_SET_FD = 0x4C00
_LOOP_CTL_GET_FREE = 0x4C82
_BLKGETSIZE64 = 0x80081272
_ATTEMPTS = 64


def attach(path: str) -> str:
    """The device of the file, a new one unless it has one already: it stays until `detach`. Raises OSError."""
    if found := device_of(path):
        return found
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_ATTEMPTS):
            device = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(fd, _LOOP_SET_FD, file)
                return device
            except OSError as e:
                if e.errno != errno.EBUSY:  # somebody else took it in between
                    raise
            finally:
                os.close(fd)
        raise OSError(errno.EBUSY, "no free loop device", path)
    finally:
        os.close(control)
        os.close(file)


def detach(device: str) -> None:
    """Give it up; while somebody has it open, when the last one closes it. Raises OSError."""
    fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _LOOP_CLR_FD)
    finally:
        os.close(fd)


def device_of(path: str) -> str:
    """The loop device that the file is behind; "" for none."""
    wanted = os.path.realpath(path)
    for entry in sorted(Path("/sys/block").glob("loop*/loop/backing_file")):
        try:
            if entry.read_text().rstrip("\n") == wanted:
                return f"/dev/{entry.parts[3]}"
        except OSError:
            continue  # detached meanwhile
    return ""


def size_of(device: str) -> int:
    """Bytes of any block device. Raises OSError."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        answer = fcntl.ioctl(fd, _BLKGETSIZE64, b"\0" * 8)
    finally:
        os.close(fd)
    (size,) = struct.unpack("=Q", answer)
    return int(size)
