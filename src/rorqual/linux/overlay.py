"""Whether overlayfs can be had, which only a try tells. Source: Documentation/filesystems/overlayfs.rst, "Nesting"."""

import errno
import os
import shutil
import stat

from rorqual.linux import mount


def missing(root: str) -> str:
    """Why overlayfs cannot be used below the directory `root`; "" when it can: it is tried."""
    top = f"{root}/probe-{os.getpid()}"
    try:
        for name in ("", "/lower", "/upper", "/work", "/merged"):
            os.mkdir(f"{top}{name}", 0o700)
        options = f"lowerdir={top}/lower,upperdir={top}/upper,workdir={top}/work"
        try:
            mount.mount("overlay", f"{top}/merged", "overlay", 0, options)
        except OSError as e:
            if e.errno == errno.ENODEV:
                return "the kernel has no overlayfs"
            return f"overlayfs cannot be mounted below {root}: {e.strerror} (the directory may be on an overlay itself)"
        mount.umount(f"{top}/merged", mount.MNT_DETACH)
        try:
            os.mknod(f"{top}/upper/whiteout", stat.S_IFCHR)
            os.setxattr(f"{top}/upper", "trusted.overlay.opaque", b"y")
        except OSError as e:
            return f"whiteouts cannot be made below {root}: {e.strerror}"
    finally:
        shutil.rmtree(top, ignore_errors=True)
    return ""
