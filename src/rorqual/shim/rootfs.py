"""The rootfs of a container of another OCI runtime, mounted where that runtime will look: <bundle>/rootfs.

The built-in runtime needs none of this: it mounts inside the container's own mount namespace.
"""

from __future__ import annotations

import errno

from rorqual.linux import mount
from rorqual.rpc import taskapi
from rorqual.runc.rootfs import options


def mount_rootfs(bundle: str, mounts: list[taskapi.Mount]) -> None:
    """Mount them, one over the other. Raises OSError, with nothing left mounted."""
    target = f"{bundle}/rootfs"
    try:
        for m in mounts:
            parsed = options.parse(tuple(m.options))
            mount.mount(m.source, target, m.type, parsed.flags, ",".join(parsed.data) or None)
            if parsed.is_bind and parsed.flags & mount.MS_RDONLY:
                # a bind takes its read-only flag only from a remount
                mount.mount(None, target, None, parsed.flags | mount.MS_REMOUNT)
    except BaseException:
        unmount_rootfs(bundle)
        raise


def unmount_rootfs(bundle: str) -> None:
    """Unmount whatever is mounted there."""
    while True:
        try:
            mount.umount(f"{bundle}/rootfs", mount.MNT_DETACH)
        except OSError as e:
            if e.errno in (errno.EINVAL, errno.ENOENT):  # not, or no longer, a mount
                return
            raise
