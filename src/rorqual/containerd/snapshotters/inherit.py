"""Directories that a layer has only because an entry lies in them: once its parent is known, they become the parent's.

A layer unpacked without its parent makes them as root's, 0755; stacked, they would hide the parent's owner and mode.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from rorqual.linux import paths


def inherit_directories(layer: str, parents: Sequence[str], names: Sequence[str]) -> None:
    """Give each directory of `layer` in `names` the owner, mode, times and xattrs of the nearest parent layer's.

    What a parent has there other than a directory, or below a symlink, stays hidden by the layer's own directory.
    """
    layer_fd = paths.open_root(layer)
    parent_fds = [paths.open_root(parent) for parent in parents]
    try:
        for name in names:
            source = _nearest(parent_fds, name)
            if source is None:
                continue
            try:
                target = paths.open_beneath(layer_fd, name, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    _copy(source, target)
                finally:
                    os.close(target)
            finally:
                os.close(source)
    finally:
        for fd in (layer_fd, *parent_fds):
            os.close(fd)


def _nearest(parent_fds: Sequence[int], name: str) -> int | None:
    """The uppermost layer's directory, opened; None when none has it, or something else hides the ones below."""
    for fd in parent_fds:
        try:
            return paths.open_beneath(fd, name, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        except OSError:
            return None  # a file, a whiteout or a symlink
    return None


def _copy(source: int, target: int) -> None:
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        if not name.startswith("trusted.overlay."):  # opaqueness is the parent's own
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
