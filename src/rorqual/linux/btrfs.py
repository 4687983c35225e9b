"""btrfs' subvolumes and quota groups by ioctl(2), with kernel names. Source: linux/btrfs.h."""

import fcntl
import os
import struct

BTRFS_SUPER_MAGIC = 0x9123683E

_PATH_NAME_MAX = 4087
_SUBVOL_NAME_MAX = 4039
_BTRFS_IOC_SUBVOL_CREATE = 0x5000940E
_BTRFS_IOC_SNAP_DESTROY = 0x5000940F
_BTRFS_IOC_SNAP_CREATE_V2 = 0x50009417
_BTRFS_IOC_QUOTA_CTL = 0xC0109428
_BTRFS_IOC_QGROUP_LIMIT = 0x8030942B
_BTRFS_QUOTA_CTL_ENABLE = 1
_BTRFS_QGROUP_LIMIT_MAX_RFER = 1


def create_subvolume(parent_fd: int, name: str) -> None:
    """Make the empty subvolume `name` below the directory. Raises OSError."""
    fcntl.ioctl(parent_fd, _BTRFS_IOC_SUBVOL_CREATE, _vol_args(0, name))


def create_snapshot(source_fd: int, parent_fd: int, name: str) -> None:
    """Make `name` below `parent_fd` a writable snapshot of the subvolume `source_fd`. Raises OSError."""
    encoded = os.fsencode(name)
    if len(encoded) > _SUBVOL_NAME_MAX:
        raise ValueError(name)
    arguments = bytearray(struct.pack(f"=qQQ4Q{_SUBVOL_NAME_MAX + 1}s", source_fd, 0, 0, 0, 0, 0, 0, encoded))
    fcntl.ioctl(parent_fd, _BTRFS_IOC_SNAP_CREATE_V2, arguments)


def destroy_subvolume(parent_fd: int, name: str) -> None:
    """Remove the subvolume with all in it. Raises OSError (ENOTEMPTY: it holds another subvolume)."""
    fcntl.ioctl(parent_fd, _BTRFS_IOC_SNAP_DESTROY, _vol_args(0, name))


def enable_quota(fd: int) -> None:
    """Of the file system; a second call does nothing. Raises OSError."""
    fcntl.ioctl(fd, _BTRFS_IOC_QUOTA_CTL, struct.pack("=QQ", _BTRFS_QUOTA_CTL_ENABLE, 0))


def limit_referenced(fd: int, max_bytes: int) -> None:
    """Bound what the subvolume `fd` may refer to, shared extents included. Raises OSError (ENOTCONN: no quota)."""
    limit = struct.pack("=QQQQQQ", 0, _BTRFS_QGROUP_LIMIT_MAX_RFER, max_bytes, 0, 0, 0)
    fcntl.ioctl(fd, _BTRFS_IOC_QGROUP_LIMIT, limit)


def _vol_args(fd: int, name: str) -> bytearray:
    """Mutable, as fcntl.ioctl takes 1024 bytes of others at most."""
    encoded = os.fsencode(name)
    if len(encoded) > _PATH_NAME_MAX:
        raise ValueError(name)
    return bytearray(struct.pack(f"=q{_PATH_NAME_MAX + 1}s", fd, encoded))
