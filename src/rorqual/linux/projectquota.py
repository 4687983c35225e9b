"""Project quotas: a bound on what lies below one directory, by ioctl(2) and quotactl_fd(2), with kernel names.

XFS mounted with pquota, and ext4 made with project quotas, have them. Source: quotactl_fd(2) (Linux 5.14), xfsctl(3),
linux/dqblk_xfs.h, linux/fs.h.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct

from rorqual.linux import libc

_FS_IOC_FSGETXATTR = 0x801C581F
_FS_IOC_FSSETXATTR = 0x401C5820
_FSXATTR = struct.Struct("=5I8x")  # fsx_xflags, fsx_extsize, fsx_nextents, fsx_projid, fsx_cowextsize
_FS_XFLAG_PROJINHERIT = 0x200
_PRJQUOTA = 2
_Q_XSETQLIM = 0x5804
_FS_DQUOT_VERSION, _FS_PROJ_QUOTA = 1, 2
_FS_DQ_BSOFT, _FS_DQ_BHARD = 1 << 2, 1 << 3
_BLOCK_BYTES = 512
# d_version, d_flags, d_fieldmask, d_id, d_blk_hardlimit, d_blk_softlimit, and what is not set here: 112 bytes
_DISK_QUOTA = struct.Struct("=bbHIQQ88x")

_quotactl_fd = libc.system_call(libc.NR_QUOTACTL_FD, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint, ctypes.c_char_p)


def project_of(fd: int) -> int:
    """The project that the file belongs to, 0 for none. Raises OSError (ENOTTY: the file system has none)."""
    project: int = _FSXATTR.unpack(fcntl.ioctl(fd, _FS_IOC_FSGETXATTR, bytes(_FSXATTR.size)))[3]
    return project


def assign(fd: int, project: int) -> None:
    """The directory and all that will be made below it belong to the project. Raises OSError (ENOTTY)."""
    flags, extent, _, _, cow = _FSXATTR.unpack(fcntl.ioctl(fd, _FS_IOC_FSGETXATTR, bytes(_FSXATTR.size)))
    fcntl.ioctl(fd, _FS_IOC_FSSETXATTR, _FSXATTR.pack(flags | _FS_XFLAG_PROJINHERIT, extent, 0, project, cow))


def limit(fd: int, project: int, max_bytes: int) -> None:
    """Bound what the project may take on the file system of `fd`; 0 for no bound.

    Raises OSError: ENOSYS, EINVAL, ENOTTY or ESRCH where project quotas are not kept.
    """
    blocks = -(-max_bytes // _BLOCK_BYTES)
    wanted = _DISK_QUOTA.pack(_FS_DQUOT_VERSION, _FS_PROJ_QUOTA, _FS_DQ_BHARD | _FS_DQ_BSOFT, project, blocks, blocks)
    libc.check(_quotactl_fd(fd, _Q_XSETQLIM << 8 | _PRJQUOTA, project, wanted))


def is_missing(error: OSError) -> bool:
    """Whether an error of `assign` or `limit` says that the file system keeps no project quotas."""
    return error.errno in (errno.ENOSYS, errno.EINVAL, errno.ENOTTY, errno.ESRCH, errno.EOPNOTSUPP, errno.EPERM)


def project_below(directory_inode: int, number: int) -> int:
    """A project id for the `number`th directory of an owner of many; two owners' differ with a chance of 4095 to 1."""
    return 1 << 31 | (directory_inode % 4095) << 19 | number % (1 << 19)


def open_directory(path: str) -> int:
    """An fd that the calls above take."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
