"""The attribute T of ext2, ext3 and ext4 directories (chattr(1)): what is below one of its subdirectories has nothing
to do with what is below another. Source: ioctl_iflags(2), linux/fs.h."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FS_TOPDIR_FL = 0x00020000
_FLAGS = struct.Struct("=I4x")  # the kernel reads and writes an int, whatever the ioctl's number says of its size
_NOT_HERE = frozenset({errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.EROFS})


def spread(path: str) -> bool:
    """Let the file system put each subdirectory made from now on into a block group of its own choice; whether it does.

    Files of one layer then do not look for inodes where those of another are being made, or were just removed.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = _FLAGS.unpack(fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(_FLAGS.size)))[0]
        if not flags & _FS_TOPDIR_FL:
            fcntl.ioctl(fd, _FS_IOC_SETFLAGS, _FLAGS.pack(flags | _FS_TOPDIR_FL))
    except OSError as e:
        if e.errno not in _NOT_HERE:
            raise
        return False
    finally:
        os.close(fd)
    return True
