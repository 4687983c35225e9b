"""Masked and read-only paths: each is pinned, then covered by fd; the mask is the host's own /dev/null, checked.

Case: CVE-2025-31133: an image that replaces its /dev/null by a link cannot choose what covers /proc/kcore, because the
container's /dev/null is never used for it.
"""

import os
import stat

from rorqual.linux import mount as linux_mount
from rorqual.linux import paths
from rorqual.runc.errors import Refusal, reason


def mask(root_fd: int, masked: tuple[str, ...], label: str = "") -> None:
    """Files by /dev/null, directories by an empty read-only tmpfs with that SELinux label; what doesn't exist needs no
    mask."""
    if not masked:
        return
    null = _open_null()
    empty = -1
    try:
        for path in dict.fromkeys(masked):
            target = _open(root_fd, path, "mask")
            if target is None:
                continue
            try:
                if stat.S_ISDIR(os.fstat(target).st_mode):
                    if empty < 0:
                        empty = _empty_directory(label)
                        _attach(empty, target, path)
                    else:
                        _cover(empty, target, path)
                else:
                    _cover(null, target, path)
            finally:
                os.close(target)
    finally:
        os.close(null)
        if empty >= 0:
            os.close(empty)


def _open_null() -> int:
    """Runs before the rootfs is entered, so this is the host's."""
    null = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not paths.is_null_device(null):
        os.close(null)
        raise Refusal("can't mask paths: /dev/null is not the null device")
    return null


def _empty_directory(label: str) -> int:
    """One tmpfs for all masked directories: a mount each, but only one filesystem.

    The first mask is this very mount, the others are copies of it: older kernels copy no mount that isn't attached.
    """
    options = (("nr_blocks", "1"), ("nr_inodes", "2"), ("mode", "755"), *((("context", label),) if label else ()))
    return linux_mount.new_filesystem("tmpfs", options, linux_mount.MOUNT_ATTR_RDONLY)


def _open(root_fd: int, path: str, what: str) -> int | None:
    try:
        return paths.open_in_root(root_fd, path, os.O_PATH)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        raise Refusal(f"can't {what} path {path!r}: {reason(e)}") from e


def _cover(source: int, target: int, path: str) -> None:
    try:
        tree = linux_mount.clone_tree_of(source, recursive=False)
    except OSError as e:
        raise Refusal(f"can't mask path {path!r}: {reason(e)}") from e
    try:
        _attach(tree, target, path)
    finally:
        os.close(tree)


def _attach(tree: int, target: int, path: str) -> None:
    try:
        linux_mount.attach(tree, target)
    except OSError as e:
        raise Refusal(f"can't mask path {path!r}: {reason(e)}") from e


def make_read_only(root_fd: int, read_only: tuple[str, ...]) -> None:
    for path in dict.fromkeys(read_only):
        target = _open(root_fd, path, "make read-only")
        if target is None:
            continue
        try:
            tree = linux_mount.clone_tree_of(target, recursive=True)
            try:
                linux_mount.set_attributes(tree, set_=linux_mount.MOUNT_ATTR_RDONLY)
                linux_mount.attach(tree, target)
            finally:
                os.close(tree)
        except OSError as e:
            raise Refusal(f"can't make path {path!r} read-only: {reason(e)}") from e
        finally:
            os.close(target)
